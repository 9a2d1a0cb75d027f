"""What happens beside learning: log entries, evaluations, checkpoints, and the rules for stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rltrain.core import Metrics, Progress, State
from rltrain.diagnostics import BonusTrend, entropy
from rltrain.evaluation import EvalProtocol
from rltrain.metrics import CONFIRMED, EXACT


class Log(Protocol):
    """Where metrics go."""

    def log(self, step: int, metrics: Metrics) -> None: ...


class _Every:
    """Due whenever the step has crossed a multiple of `every` since what was last done."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.last = 0  # step at which it was last done

    def due(self, step: int) -> bool:
        return self.every is not None and step // self.every != self.last // self.every


def number(value: Any) -> float:
    """The number that a metric stands for."""
    if callable(value):
        value = value()
    return float(value if isinstance(value, int | float) else value.mean())


def score_of(result: dict[str, Any]) -> float:
    """What policies are compared by: the exact return where it is known, else the mean of the episodes."""
    return float(result.get("exact_return", result["return_mean"]))


class LogProgress:
    """Writes returns, lengths and learning metrics every `every` environment steps, and at the end.

    Returns are means over the episodes that ended since the last entry, and so is what is told of exploration; metrics
    are the latest update's.
    """

    def __init__(self, every: int, log: Log, protocol: EvalProtocol) -> None:
        self.every: int | None = every
        self.latest: Metrics = {}
        self._timer = _Every(every)
        self._log = log
        self._protocol = protocol
        self._ended = Progress(0)
        self._bonus = BonusTrend()
        self._episodes = 0
        self._lost = 0
        self._clock = time.monotonic()
        self._clock_step: int | None = None

    def __call__(self, progress: Progress) -> bool:
        """Collect, and write when it is time."""
        if self._clock_step is None:
            self._clock_step = self._timer.last
        self._ended.add(progress)
        self._episodes += len(progress.returns)
        self._lost += progress.lost
        if self._timer.due(progress.steps):
            self._write(progress.steps)
        return False

    def end(self, step: int) -> bool:
        """Write what the run's last steps came to, where they are fewer than `every`; whether it was so."""
        if step == self._timer.last:
            return False
        self._write(step)
        return True

    def _write(self, step: int) -> None:
        self.latest = self._entry(step)
        self._log.log(step, self.latest)
        self._ended = Progress(step)
        self._timer.last = step

    def _entry(self, step: int) -> Metrics:
        ended = self._ended
        entry: Metrics = {}
        if ended.returns:
            entry["rollout/return"] = float(np.mean(ended.returns))
            entry["rollout/length"] = float(np.mean(ended.lengths))
            told = np.array(ended.successes) if ended.successes else None
            success, _ = self._protocol.successes(np.array(ended.returns), told)
            if success is not None:
                entry["rollout/success_rate"] = float(np.mean(success))
        entry["rollout/episodes"] = self._episodes
        if self._lost:
            entry["rollout/lost_episodes"] = self._lost
        # by name: an update may come before or after the first pause, which is the clock's
        entry.update({name: number(value) for name, value in sorted(ended.metrics.items())})
        entry.update(self._exploration(step))
        now = time.monotonic()
        entry["time/steps_per_second"] = (step - (self._clock_step or 0)) / max(now - self._clock, 1e-9)
        self._clock, self._clock_step = now, step
        return entry

    def _exploration(self, step: int) -> Metrics:
        """How often actions were not greedy, how they were spread, and what the bonuses paid."""
        ended, told = self._ended, {}
        if ended.choices:
            told["exploration/exploratory_share"] = ended.exploratory / ended.choices
        if ended.actions is not None:
            told["exploration/action_entropy"] = entropy(ended.actions)
        if ended.bonus is not None:
            told.update(self._bonus(step, ended.bonus))
        return told

    def state_dict(self) -> State:
        """Episodes counted, and what waits for the next entry."""
        ended = self._ended
        metrics = {name: number(value) for name, value in ended.metrics.items()}
        return {
            "last": self._timer.last,
            "episodes": self._episodes,
            "lost": self._lost,
            "returns": list(ended.returns),
            "lengths": list(ended.lengths),
            "successes": list(ended.successes),
            "metrics": metrics,
            "choices": ended.choices,
            "exploratory": ended.exploratory,
            "actions": None if ended.actions is None else ended.actions.copy(),
            "bonus": ended.bonus,
            "bonus_trend": self._bonus.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._timer.last = state["last"]
        self._clock_step = None
        self._clock = time.monotonic()
        self._episodes = state["episodes"]
        self._lost = state["lost"]
        waiting = ("returns", "lengths", "successes", "metrics", "choices", "exploratory", "actions", "bonus")
        self._ended = Progress(state["last"], **{name: state[name] for name in waiting})
        self._bonus.load_state_dict(state["bonus_trend"])


class Evaluate:
    """Evaluates the greedy policy every `every` steps and remembers the best score.

    When an evaluation reaches `stop_return`, `confirm(step)` evaluates on fresh episodes; if their mean
    reaches it too, training stops.
    """

    def __init__(
        self,
        every: int | None,
        log: Log,
        evaluate: Callable[[], dict[str, Any]],
        *,
        stop_return: float | None,
        confirm: Callable[[int], dict[str, Any]],
    ) -> None:
        self.every = every
        self.step: int | None = None
        self.latest: dict[str, Any] | None = None
        self.best: float | None = None
        self.best_step: int | None = None
        self._timer = _Every(every)
        self._log = log
        self._evaluate = evaluate
        self._stop_return = stop_return
        self._confirm = confirm

    def __call__(self, progress: Progress) -> bool:
        """Evaluate when it is time. True when the stopping rule is met."""
        if not self._timer.due(progress.steps):
            return False
        met = self.run(progress.steps)
        self._timer.last = progress.steps  # not before: where an environment failed, it is still due
        return met

    def run(self, step: int) -> bool:
        """Evaluate now. True when the stopping rule is met."""
        result = self._evaluate()
        self.step, self.latest = step, result
        score = score_of(result)
        if self.best is None or score >= self.best:  # a tie goes to the later one
            self.best, self.best_step = score, step
        entry = {
            "eval/return": result["return_mean"],
            "eval/return_iqm": result["return_iqm"],
            "eval/length": result["length_mean"],
        }
        if result["success_rate"] is not None:
            entry["eval/success_rate"] = result["success_rate"]
        entry |= {f"eval/{name}": result[name] for name in EXACT if name in result}
        self._log.log(step, entry)
        if self._stop_return is None or score < self._stop_return:
            return False
        confirmed = score_of(self._confirm(step))
        self._log.log(step, {CONFIRMED: confirmed})
        return confirmed >= self._stop_return

    def score_at(self, step: int) -> float | None:
        """The score of the evaluation at exactly this step, if there was one."""
        return score_of(self.latest) if self.latest is not None and self.step == step else None

    def state_dict(self) -> State:
        """The latest and the best score."""
        return {
            "last": self._timer.last,
            "step": self.step,
            "latest": self.latest,
            "best": self.best,
            "best_step": self.best_step,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._timer.last = state["last"]
        self.step, self.latest = state["step"], state["latest"]
        self.best, self.best_step = state["best"], state["best_step"]


class SaveCheckpoints:
    """Saves every `every` steps, and whenever an evaluation was the best so far."""

    def __init__(self, every: int | None, save: Callable[[int], None], evaluate: Evaluate, keep_best: int) -> None:
        self.every = every
        self.saved_at: int | None = None
        self._timer = _Every(every)
        self._save = save
        self._evaluate = evaluate
        self._keep_best = keep_best

    def __call__(self, progress: Progress) -> bool:
        """Save when it is time."""
        if due := self._timer.due(progress.steps):
            self._timer.last = progress.steps
        if due or (self._keep_best and self._evaluate.best_step == progress.steps):
            self.save(progress.steps)
        return False

    def save(self, step: int) -> None:
        """Save now, unless this step is saved already."""
        if self.saved_at != step:
            self._save(step)
            self.saved_at = step

    def resumed_at(self, step: int) -> None:
        """Take note that the run goes on from a checkpoint at this step."""
        self._timer.last = step
        self.saved_at = step


class StopAfter:
    """Stops after a number of minutes, those before an interruption included."""

    every: int | None = None

    def __init__(self, minutes: float | None) -> None:
        self._seconds = None if minutes is None else 60 * minutes
        self._before = 0.0
        self._began = time.monotonic()

    def __call__(self, progress: Progress) -> bool:
        """True when the time is over."""
        return self._seconds is not None and self.elapsed() >= self._seconds

    def elapsed(self) -> float:
        """Seconds of training, over all sittings."""
        return self._before + time.monotonic() - self._began

    def state_dict(self) -> State:
        """Seconds so far."""
        return {"seconds": self.elapsed()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._before = state["seconds"]
        self._began = time.monotonic()

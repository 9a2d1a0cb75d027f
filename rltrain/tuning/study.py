"""One study as one process sees it: trials are begun, taken over from the dead, told and counted.

A process holds the lock of a trial's folder as long as it works on it. A trial that the storage calls running and whose
folder nobody holds belongs to a process that is no more: whoever finds it goes on with it, under its number. Trials are
begun one at a time over all processes (`Store.exclusive`), so that none is found in the making.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rltrain.config.load import dump_data
from rltrain.config.schema import Config
from rltrain.config.tune import TuneSettings
from rltrain.core import ConfigError
from rltrain.differences import differing
from rltrain.rundir import STUDY, RunLocked, lock_run, write_atomic
from rltrain.tuning.objective import Objective
from rltrain.tuning.optimizers import make_pruner, make_sampler
from rltrain.tuning.space import Space, Values
from rltrain.tuning.storage import StorageError, Store, reason

if TYPE_CHECKING:
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial, Trial

PATIENCE_SECONDS = 300.0
"""A storage that cannot be reached is tried again for this long."""
DEFINITION, BEGUN, UNBEGUN, POINT, SCORES, REASON = "definition", "begun", "unbegun", "point", "scores", "reason"
"""Names of attributes in the storage."""
_T = TypeVar("_T")


@dataclass
class Held:
    """A trial that this process works on, and nobody else."""

    number: int
    values: Values
    trial: Trial
    folder: Path
    lock: ExitStack
    reported: set[int] = field(default_factory=set)
    """Steps whose values the storage has."""


@dataclass
class Study:
    """A study in its storage, with the folder of its trials."""

    store: Store
    optuna: OptunaStudy
    config: Config
    folder: Path
    warn: Callable[[str], None]
    interrupted: Callable[[], bool] = lambda: False
    held: dict[int, Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.space = Space.of(self.config)
        self.objective = Objective.of(self.config)

    @property
    def tune(self) -> TuneSettings:
        """The block `tune`."""
        assert self.config.tune is not None
        return self.config.tune

    @property
    def name(self) -> str:
        """The study's name."""
        return self.optuna.study_name

    @property
    def seeds(self) -> list[int]:
        """The seeds of every trial."""
        return list(range(self.config.seed, self.config.seed + self.tune.seeds_per_trial))

    @property
    def budget(self) -> int:
        """How many trials it has."""
        if self.tune.sampler != "grid":
            return self.tune.trials or 0
        return min(self.tune.trials or len(self.space.points), len(self.space.points))

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, of all processes, in the order of their numbers."""
        found = self._patiently(lambda: self.optuna.get_trials(deepcopy=False))
        return [trial for trial in found if trial.state.name != "WAITING" and UNBEGUN not in trial.user_attrs]

    def folder_of(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / f"trial-{number:04}"

    def take(self, *, new: bool = True) -> Held | None:
        """A trial to work on: one that its process has left, or else a new one; None where there is neither."""

        def taken() -> Held | None:
            with self.store.exclusive():
                trials = self.optuna.get_trials(deepcopy=False)
                if (found := self._abandoned(trials)) is not None:
                    return found
                counted = [t for t in trials if t.state.name != "WAITING" and UNBEGUN not in t.user_attrs]
                return self._begin(trials) if new and len(counted) < self.budget else None

        held = self._patiently(taken)
        if held is not None:
            self.held[held.number] = held
        return held

    def _abandoned(self, trials: Sequence[FrozenTrial]) -> Held | None:
        for trial in trials:
            if trial.state.name != "RUNNING" or trial.number in self.held:
                continue
            if self.folder_of(trial.number).is_dir():
                if (lock := self._lock(trial.number)) is None:
                    continue
                if self.optuna._storage.get_trial(trial._trial_id).state.is_finished():
                    lock.close()  # its process told it since the trials were read, and then let go of it
                else:
                    return self._hold(trial.number, self._open(trial.number, trial._trial_id), lock)
            elif BEGUN not in trial.user_attrs:  # its process died between two lines, and nothing was done
                self.optuna._storage.set_trial_user_attr(trial._trial_id, UNBEGUN, True)
                trial.user_attrs[UNBEGUN] = True
                self._tell(trial.number, None, "FAIL")
        return None

    def _open(self, number: int, trial_id: int) -> Trial:
        from optuna.trial import Trial

        self.optuna.sampler = make_sampler(self.tune.sampler, self.config.seed, number)
        return Trial(self.optuna, trial_id)

    def _begin(self, trials: Sequence[FrozenTrial]) -> Held:
        waiting = [trial for trial in trials if trial.state.name == "WAITING"]
        if self.tune.sampler == "grid" and not waiting:
            used = {t.user_attrs.get(POINT) for t in trials if UNBEGUN not in t.user_attrs}
            point = next(index for index in range(len(self.space.points)) if index not in used)
            self.optuna.enqueue_trial(self.space.encoded(self.space.points[point]), user_attrs={POINT: point})
        number = waiting[0].number if waiting else len(trials)
        self.optuna.sampler = make_sampler(self.tune.sampler, self.config.seed, number)
        trial = self.optuna.ask()
        self.folder_of(trial.number).mkdir(parents=True, exist_ok=True)
        lock = self._lock(trial.number)
        assert lock is not None, "a new trial's folder is nobody's"
        return self._hold(trial.number, trial, lock)

    def _lock(self, number: int) -> ExitStack | None:
        stack = ExitStack()
        try:
            stack.enter_context(lock_run(self.folder_of(number)))
        except RunLocked:
            return None
        return stack

    def _hold(self, number: int, trial: Trial, lock: ExitStack) -> Held:
        try:
            values = self.space.suggest(trial)
            trial.set_user_attr(BEGUN, True)
        except BaseException:
            lock.close()
            raise
        reported = set(self.optuna._storage.get_trial(trial._trial_id).intermediate_values)
        return Held(number, values, trial, self.folder_of(number), lock, reported)

    def report(self, held: Held, step: int, value: float, *, early: bool = False) -> bool:
        """Note an intermediate value. Returns whether the trial should end; the median ends none that is `early`."""
        if step not in held.reported:
            self._patiently(lambda: held.trial.report(value, step))
            held.reported.add(step)
        if self.tune.pruner == "none" or (early and self.tune.pruner == "median"):
            return False
        return self._patiently(held.trial.should_prune)

    def complete(self, held: Held, value: float, scores: dict[int, float]) -> None:
        """The trial is done."""
        self._note(held, SCORES, {str(seed): score for seed, score in scores.items()})
        self._tell(held.number, value, "COMPLETE")

    def prune(self, held: Held) -> None:
        """The trial ends early; its latest intermediate value is its value."""
        self._tell(held.number, None, "PRUNED")

    def fail(self, held: Held, why: str) -> None:
        """The trial has no value."""
        self._note(held, REASON, why)
        self._tell(held.number, None, "FAIL")

    def release(self, held: Held) -> None:
        """Work on it no more: told, it is done; else somebody may go on with it."""
        del self.held[held.number]
        held.lock.close()

    def _note(self, held: Held, name: str, value: Any) -> None:
        def note() -> None:
            if not self.optuna._storage.get_trial(held.trial._trial_id).state.is_finished():
                held.trial.set_user_attr(name, value)

        self._patiently(note)

    def _tell(self, number: int, value: float | None, state: str) -> None:
        from optuna.trial import TrialState

        self._patiently(lambda: self.optuna.tell(number, value, TrialState[state], skip_if_finished=True))

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Try again while the storage cannot be reached. Raises StorageError when that takes too long."""
        began, pause, warned = time.monotonic(), 0.1, False
        while True:
            try:
                return call()
            except self.store.faults as error:
                if self.interrupted() or time.monotonic() - began > PATIENCE_SECONDS:
                    raise StorageError(
                        f"{self.store.shown}: {reason(error)}; what has run is kept: go on with --resume"
                    ) from None
                if not warned:
                    self.warn(f"warning: {self.store.shown}: {reason(error)}; trying again")
                    warned = True
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def study_names(store: Store) -> list[str]:
    """The studies of a storage."""
    from optuna.study import get_all_study_names

    return list(get_all_study_names(storage=store.optuna))


def open_study(
    store: Store, name: str, config: Config, folder: Path, warn: Callable[[str], None], *, resume: bool
) -> Study:
    """Make a study, or with `resume` go on with it where there is one.

    Raises ConfigError where it is there without `resume`, or is another one than this configuration's.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objective = Objective.of(config)
    assert config.tune is not None
    with store.exclusive():
        there = name in study_names(store)
        if there and not resume:
            raise ConfigError(f"--study {name}: is there already: go on with it with --resume, or choose another name")
        made = optuna.create_study(
            study_name=name,
            storage=store.optuna,
            direction="maximize" if objective.maximize else "minimize",
            load_if_exists=True,
            pruner=make_pruner(config.tune.pruner, config, config.tune.seeds_per_trial),
        )
        defined = _definition(config)
        if DEFINITION not in made.user_attrs:
            if there and made.get_trials(deepcopy=False):
                raise ConfigError(f"--study {name}: was not made by rltrain tune")
            made.set_user_attr(DEFINITION, defined)
        _refuse_another(name, made.user_attrs[DEFINITION], defined)
        folder.mkdir(parents=True, exist_ok=True)
        whole = {**defined, "tune": config.tune.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
        write_atomic(folder / STUDY, dump_data(whole))
    return Study(store, made, config, folder, warn)


def _definition(config: Config) -> dict[str, Any]:
    """What must stay the same as long as a study goes on."""
    assert config.tune is not None
    tune = config.tune.model_dump(mode="json", by_alias=True, exclude={"trials", "confirm"}, exclude_none=True)
    return {**Space.of(config).base, "tune": tune}


def _refuse_another(name: str, stored: dict[str, Any], config: dict[str, Any]) -> None:
    changed = differing([stored, config])
    if changed:
        told = ", ".join(list(changed)[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ConfigError(
            f"--study {name}: was begun with another configuration: {told} differ; only tune.trials and tune.confirm "
            f"may change. Choose another name for another search"
        )

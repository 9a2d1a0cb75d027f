"""A launcher that trains nothing: each run's log is made by a function, so that a whole study takes a moment."""

import json
import multiprocessing

from rltrain.config.load import parse, to_dict
from rltrain.launch.job import Event
from rltrain.tuning.storage import open_store
from rltrain.tuning.study import open_study
from rltrain.tuning.tuner import Tuner

SEARCH = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 400, log_every: 100}
eval: {every: 100, episodes: 2}
device: cpu
tune:
  sampler: random
  trials: 8
  seeds_per_trial: 2
  objective: eval/return
  confirm: {top: 2, seeds: 5}
  search:
    agent.gamma: {uniform: [0.5, 1.0]}
"""


GRID = SEARCH.replace("sampler: random\n  trials: 8", "sampler: grid").replace(
    "{uniform: [0.5, 1.0]}",
    "{grid: [0.5, 0.6, 0.7]}\n    agent.visit_power: {choice: [0.0, 0.5]}\n    exploration.epsilon: {grid: [0.1, 0.2]}",
)


def worth(config):
    """What a made-up run returns in the end: gamma, and a little of its seed."""
    return config.agent.gamma + 0.001 * config.seed


class Pretender:
    """A launcher whose runs are made up; `lose` says which of them lose their process, by folder and attempt."""

    workers = 2

    def __init__(self, worth=worth, lose=lambda job, attempt: False, fail=lambda job: None):
        self.worth, self.lose, self.fail = worth, lose, fail
        self.steps, self.attempts = 0, {}

    def run(self, next_job, listen, interrupted=lambda: False, unwanted=lambda job: False):
        while not interrupted() and (job := next_job()) is not None:
            listen(Event(job, "started", {}))
            for kind, data in self._train(job, interrupted, unwanted):
                listen(Event(job, kind, data))

    def _train(self, job, interrupted, unwanted):
        attempt = self.attempts[job.folder] = self.attempts.get(job.folder, 0) + 1
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "config.yaml").write_text(json.dumps(to_dict(job.config)))
        log = job.folder / "metrics.jsonl"
        done = len(log.read_text().splitlines()) if log.exists() else 0
        for step in range(100 * (done + 1), job.config.train.total_steps + 1, 100):
            with open(log, "a") as file:
                file.write(json.dumps({"step": step, "eval/return": self.worth(job.config) * step / 400}) + "\n")
            self.steps += 100
            yield "progress", {"step": step, "eval_step": step}
            if self.lose(job, attempt):
                yield "failed", {"reason": "its process was killed", "lost": True}
                return
            if (reason := self.fail(job)) is not None:
                yield "failed", {"reason": reason}
                return
            if interrupted() or unwanted(job):
                yield "ended", {"status": "interrupted"}
                return
        summary = {"status": "finished", "steps": step, "eval_return": self.worth(job.config)}
        (job.folder / "summary.json").write_text(json.dumps(summary))
        yield "ended", summary


def at_once(*works):
    """Do these in a process each."""
    processes = [multiprocessing.get_context("fork").Process(target=work) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


class Bench:
    """Opens studies in a folder, and searches in them."""

    def __init__(self, folder):
        self.folder, self.warnings = folder, []

    def open(self, text=SEARCH, *overrides, name="s", url=None, resume=True):
        config = parse(text, source="x.yaml", overrides=overrides).config
        store = open_store(url, self.folder / "tune")
        return open_study(store, name, config, self.folder / "tune" / name, self.warnings.append, resume=resume)

    @staticmethod
    def search(study, launcher=None, interrupted=lambda: False, together=2):
        launcher = launcher or Pretender()
        tuner = Tuner(study, together, lambda work: None)
        try:
            launcher.run(tuner.next_job, tuner, interrupted, tuner.unwanted)
        finally:
            tuner.leave()
        return study.trials()

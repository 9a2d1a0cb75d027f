"""A run's evaluations and checkpoints at its end, and where an environment fails."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain import checkpoint
from rltrain.config.load import from_dict
from rltrain.envs.vector import make_vector
from rltrain.envs.workers import WorkerFault
from rltrain.evaluator import Evaluator, at_once
from rltrain.experiment import Run, build
from rltrain.fitting import problems
from rltrain.logger import read_metrics
from rltrain.saved import SavedPolicy

CONFIG = {
    "env": {"id": "FrozenLake-v1"},
    "agent": {"name": "q_learning"},
    "exploration": {"name": "epsilon_greedy"},
    "train": {"total_steps": 200, "log_every": 50, "compile": "off"},
    "eval": {"every": 50, "episodes": 2},
    "checkpoint": {"every": 50, "keep_last": 9},
    "seed": 0,
}


def run(folder, **changes):
    return Run(from_dict({**CONFIG, **changes}).config, folder)


@pytest.mark.parametrize("every", [None, 150])
def test_the_last_checkpoint_has_the_score_of_the_evaluation_that_ends_the_run(every, tmp_path):
    made = run(tmp_path, eval={"every": every, "episodes": 2})
    made.evaluate._evaluate = lambda: {"return_mean": 1.0, "return_iqm": 1.0, "length_mean": 3.0, "success_rate": None}
    made.train()
    made.close()
    best = checkpoint.load(checkpoint.find(tmp_path / "checkpoints", "best"))
    assert (best.step, best.score) == (200, 1.0)


@pytest.mark.parametrize("failing", [100, 200])
def test_an_evaluation_that_failed_comes_when_the_run_goes_on_at_the_step_where_it_was_due(failing, tmp_path):
    first = run(tmp_path, eval={"every": 100, "episodes": 2}, checkpoint={"every": None})
    evaluated = first.evaluate._evaluate

    def failing_once():
        if first.step == failing:
            raise WorkerFault("no licence left")
        return evaluated()

    first.evaluate._evaluate = failing_once
    with pytest.raises(WorkerFault):
        first.train()
    first.close()
    again = run(tmp_path, eval={"every": 100, "episodes": 2}, checkpoint={"every": None})
    again.resume(checkpoint.load(checkpoint.find(tmp_path / "checkpoints", "last")))
    assert again.step == failing
    again.train()
    again.close()
    assert [entry["step"] for entry in read_metrics(tmp_path) if "eval/return" in entry] == [100, 200]


@pytest.mark.parametrize(("vectorization", "count"), [("async", 3), ("sync", 24)])
def test_evaluation_takes_no_more_worker_processes_than_training_or_the_machine(vectorization, count, monkeypatch):
    made = from_dict({**CONFIG, "env": {"id": "FrozenLake-v1", "num_envs": 2, "vectorization": vectorization}}).config
    counts = []

    def vector(settings, number, *, training):
        counts.append(number)
        return make_vector(settings.model_copy(update={"vectorization": "sync"}), number, training=training)

    monkeypatch.setattr("rltrain.evaluator.usable_cores", lambda: 3)
    monkeypatch.setattr("rltrain.evaluator.make_vector", vector)
    built = build(made)
    evaluator = Evaluator(made, built.spec, built.agent)
    assert len(evaluator._in_environment(list(range(24)), {}, 9).returns) == 24
    assert counts == [count] == [at_once(made.env, 24)]  # which a random policy beside it takes too
    evaluator.close()
    built.envs.close()


def test_the_random_policy_for_scale_plays_in_as_many_environments(tmp_path, monkeypatch):
    made, counts = run(tmp_path), []
    made.train()
    made.close()
    monkeypatch.setattr("rltrain.saved.at_once", lambda settings, episodes: 3)
    monkeypatch.setattr(
        "rltrain.saved.make_vector",
        lambda settings, count, **how: counts.append(count) or make_vector(settings, count, **how),
    )
    with SavedPolicy.open(checkpoint.find(tmp_path / "checkpoints", "last")) as policy:
        policy.evaluate(5, 0)
    assert counts == [3]


class Told(gym.Env):
    """Says that every episode, of one step and a return of 1, was a success."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 1.0, True, False, {"is_success": True}


@pytest.mark.parametrize(
    ("success", "rate"), [(None, 1.0), ({"return_at_least": 2.0}, 0.0), ({"return_at_least": 1.0}, 1.0)]
)
def test_what_the_yaml_says_of_success_counts_while_training_as_in_evaluation(success, rate, tmp_path):
    gym.register("Told-v0", Told)
    made = run(tmp_path, env={"id": "Told-v0"}, eval={"every": 100, "episodes": 2, "success": success})
    made.train()
    made.close()
    del gym.registry["Told-v0"]
    rates = {
        name: [e[name] for e in read_metrics(tmp_path) if name in e]
        for name in ("rollout/success_rate", "eval/success_rate")
    }
    assert all(np.unique(found).tolist() == [rate] for found in rates.values())


def test_a_return_to_stop_at_that_is_never_looked_for_is_refused():
    train = {**CONFIG["train"], "stop": {"return": 0.5}}
    assert problems(from_dict({**CONFIG, "train": train}).config) == []
    for every in (None, CONFIG["train"]["total_steps"], 10**6):  # the last one comes too late to stop anything
        (found,) = problems(from_dict({**CONFIG, "train": train, "eval": {"every": every}}).config)
        assert (found.path, "set eval.every" in found.message) == ("train.stop.return", True)


@pytest.mark.parametrize(("every", "steps"), [(150, [150, 200]), (100, [100, 200]), (1_000, [200])])
def test_last_steps_that_make_no_whole_interval_are_logged_too(every, steps, tmp_path):
    made = run(tmp_path, train={**CONFIG["train"], "log_every": every})
    made.train()
    made.close()
    assert [entry["step"] for entry in read_metrics(tmp_path) if "rollout/episodes" in entry] == steps

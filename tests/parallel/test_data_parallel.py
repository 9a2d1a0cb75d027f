"""A run on several ranks is the run of one process with all the environments, here with ranks that are threads."""

import json
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest
from conftest import ROOT
from threads import teams, thread_ranks, together
from typer.testing import CliRunner

from rltrain import experiment
from rltrain.callbacks import number
from rltrain.cli.main import app
from rltrain.config.load import dump, from_dict
from rltrain.core import ConfigError, RltrainError
from rltrain.envs.vector import wrapper_state
from rltrain.experiment import Run, build, build_part
from rltrain.fitting import problems
from rltrain.launch.single import newest_checkpoint
from rltrain.parallel import RankFailed, Told, answers, fingerprint, told
from rltrain.saved import SavedPolicy
from rltrain.team import ALONE

BOTH = [{"name": "normalize_observation"}, {"name": "normalize_reward"}]
PPO = {"name": "ppo", "n_steps": 16, "batch_size": 32, "n_epochs": 3, "hidden_sizes": [16]}
FALLING = {"schedule": "linear", "start": 3e-3, "end": 0, "steps": 600}
A2C = {"name": "a2c", "n_steps": 8, "hidden_sizes": [16], "ent_coef": 0.01}


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    monkeypatch.setattr(experiment, "ray_ranks", thread_ranks)


def made(agent, ranks=1, env="CartPole-v1", envs=6, steps=600, wrappers=(), **train):
    """A configuration with `envs` environments in all."""
    return from_dict(
        {
            "env": {"id": env, "num_envs": envs // ranks, "wrappers": list(wrappers)},
            "agent": agent,
            "train": {"total_steps": steps, "log_every": 96, "data_parallel": ranks, **train},
            "eval": {"every": 288, "episodes": 2, "max_episode_steps": 30},
            "checkpoint": {"every": 192},
            "seed": 4,
            "device": "cpu",
        }
    ).config


@pytest.mark.parametrize(
    ("ranks", "agent", "env", "wrappers"),
    [
        (2, PPO, "CartPole-v1", ()),
        (
            3,
            PPO | {"batch_size": 19, "target_kl": 0.003, "learning_rate": FALLING, "clip_range_vf": 0.2},
            "CartPole-v1",
            (),
        ),
        (6, PPO | {"batch_size": 4, "n_steps": 8, "n_epochs": 1}, "CartPole-v1", ()),
        (2, PPO | {"max_grad_norm": 0.1, "shared_network": True}, "Pendulum-v1", BOTH),
        (3, PPO | {"sde": True, "sde_sample_freq": 4}, "Pendulum-v1", ()),
        (3, A2C | {"normalize_advantage": True}, "CartPole-v1", BOTH),
        (2, A2C, "Acrobot-v1", ()),
        (2, {"name": "actor_critic", "hidden_sizes": [16], "discount_weighting": True}, "CartPole-v1", ()),
    ],
)
def test_ranks_learn_what_one_process_learns_from_all_their_environments(ranks, agent, env, wrappers):
    """Several updates, minibatches of unequal parts, and of none; episodes that end on some ranks alone."""
    one, many = (build(made(agent, count, env, wrappers=wrappers)) for count in (1, ranks))
    expected, found = one.loop.advance(390), many.loop.advance(390)
    many.refresh()
    before = build(made(agent)).agent.network.parameters if env == "CartPole-v1" else 0
    assert np.abs(one.agent.network.parameters - before).max() > 1e-3
    np.testing.assert_allclose(many.agent.network.parameters, one.agent.network.parameters, rtol=1e-5, atol=1e-5)
    assert (found.steps, many.loop.steps) == (expected.steps, one.loop.steps)
    assert (found.returns, found.lengths) == (pytest.approx(expected.returns, rel=1e-5), expected.lengths)
    assert found.actions is None or np.array_equal(found.actions, expected.actions)
    skipped = {"train/explained_variance"} if agent["name"] == "a2c" else set()  # there it is a mean over ranks
    for name in expected.metrics.keys() - skipped:
        assert number(found.metrics[name]) == pytest.approx(number(expected.metrics[name]), rel=2e-3, abs=2e-4), name
    for name, state in wrapper_state(one.envs).items():
        for key, value in wrapper_state(many.envs)[name].items():
            if key != "returns":  # of the first rank's environments
                np.testing.assert_allclose(value, state[key], rtol=1e-5, err_msg=f"{name} {key}")
    many.close()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trained(config, folder, pauses=()):
    """A run that is interrupted at these steps and goes on."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(dump(config))
    for pause in (*pauses, None):
        run = Run(config, folder)
        run.resume(newest_checkpoint(folder, config, print))
        run.train(lambda run=run, pause=pause: pause is not None and run.step >= pause)
        run.close()
    return folder


def test_the_log_is_that_of_one_process(tmp_path):
    one, many = (trained(made(PPO, ranks, steps=480), tmp_path / str(ranks)) for ranks in (1, 3))
    expected, found = lines(one), lines(many)
    assert len(found) == len(expected) > 5
    assert sum("rollout/return" in line for line in found) > 2
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(("agent", "env"), [(PPO, "Pendulum-v1"), (A2C, "CartPole-v1")])
def test_a_run_that_was_interrupted_writes_the_same_bytes(tmp_path, agent, env):
    """In the middle of rollouts and episodes, whose steps are on every rank."""
    config = made(agent, 2, env, envs=4, wrappers=BOTH, steps=1_000)
    whole = trained(config, tmp_path / "whole")
    parts = trained(config, tmp_path / "parts", pauses=(204, 610))
    assert len(list((parts / "checkpoints").iterdir())) >= 3
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert any("rollout/return" in line for line in lines(whole))


def test_a_checkpoint_has_the_network_once_and_is_read_as_any_other(tmp_path):
    folder = trained(made(PPO, 3, wrappers=BOTH, steps=240), tmp_path / "run")
    saved = newest_checkpoint(folder, made(PPO, 3), print)
    others = saved.state["loop"]["others"]
    assert [set(other["agent"]) for other in others] == [{"rollout"}, {"rollout"}]
    with SavedPolicy.open(folder) as policy:
        assert policy.evaluate(2, 0)["return_mean"] > 0


def test_ranks_that_learn_different_things_are_found_out_before_anything_is_saved(tmp_path, monkeypatch):
    from rltrain.team import Team

    monkeypatch.setattr(Team, "average", lambda self, x, share: x)
    with pytest.raises(RankFailed, match="rank 1 has another network"):
        trained(made(PPO, 2, steps=240), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"agent": {"name": "dqn"}, "exploration": {"name": "epsilon_greedy"}},
            "dqn learns in one process: leave this out, or use a2c, actor_critic or ppo",
        ),
        ({"agent": {"name": "reinforce"}}, "reinforce learns in one process"),
        ({"bonuses": [{"name": "hashed_count"}]}, "bonuses"),
        ({"train": {"total_steps": 10_000, "data_parallel": 2, "compile": "on"}}, "nothing is compiled"),
        ({"seeds": 3}, "for one run alone"),
    ],
)
def test_what_cannot_be_divided_is_refused(change, words):
    settings = {"env": {"id": "CartPole-v1"}, "agent": PPO, "train": {"total_steps": 10_000, "data_parallel": 2}}
    found = problems(from_dict(settings | change).config)
    assert [problem.path for problem in found] == ["train.data_parallel"]
    assert words in found[0].message
    assert not problems(from_dict(settings).config)


def test_a_batch_is_compared_with_the_rollout_of_all_ranks():
    assert not problems(made(PPO | {"batch_size": 96}, 3))
    (problem,) = problems(made(PPO | {"batch_size": 97}, 3))
    assert problem.path == "agent.batch_size"
    assert "96" in problem.message


def test_rows_of_two_ranks_by_hand():
    """Two steps of two ranks with two environments: rows 0 1 | 2 3, then 4 5 | 6 7; the second rank has 2 3 6 7."""
    first, second = teams(2)
    order = np.array([6, 0, 3, 5, 2])
    here, places = second.locate(order, 2)
    assert here.tolist() == [True, False, True, False, True]
    assert places.tolist() == [2, 1, 0]
    assert first.locate(order, 2)[1].tolist() == [0, 3]
    assert second.part([1, 2, 3, 4]) == [3, 4]
    assert second.spread(np.array([[5.0], [6.0]])).tolist() == [[0], [0], [5], [6]]
    ask = [lambda: first.rows(np.array([1.0, 2.0]), np.array([False, True])), lambda: second.rows(np.array([3.0, 4.0]))]
    assert [rows.tolist() for rows in together(ask)] == [[2, 3, 4]] * 2
    ask = [lambda: first.average(np.array([2.0]), 0.25), lambda: second.average(np.array([6.0]), 0.75)]
    assert [mean.tolist() for mean in together(ask)] == [[5.0]] * 2  # 0.5 + 4.5
    assert together([lambda: first.any(False), lambda: second.any(True)]) == [True, True]
    rows = np.arange(3.0)
    assert ALONE.average(rows, 1.0) is ALONE.rows(rows) is ALONE.spread(rows) is rows


def test_an_update_ends_by_the_divergence_over_everybodys_rows():
    """Ratios of 2 here and 1 there: 2 - 1 - log 2 on a quarter of the rows, 0 on the rest."""
    agents = [build_part(made(PPO, 2), team).agent for team in teams(2)]
    ask = [
        partial(agent._divergence, np.log([ratio, ratio]), share)
        for agent, ratio, share in zip(agents, (2.0, 1.0), (0.25, 0.75), strict=True)
    ]
    assert together(ask) == [pytest.approx((1 - np.log(2)) / 4)] * 2


def done(outcome):
    future = Future()
    future.set_exception(outcome) if isinstance(outcome, Exception) else future.set_result(outcome)
    return future


def failing(error):
    def call():
        raise error

    return told(call)


class Faulty(RltrainError):
    exit_code = 65


def test_the_rank_with_a_reason_of_its_own_is_blamed(monkeypatch):
    from rltrain.collective import TeamLost

    follows = done(failing(TeamLost("nobody answers")))
    assert answers([done(Told(1)), done(Told([]))]) == [1, []]
    with pytest.raises(RankFailed, match="rank 2 of 3: it broke") as caught:
        answers([follows, done(Told(1)), done(failing(Faulty("it broke")))])
    assert caught.value.exit_code == 65
    with pytest.raises(RankFailed, match=r"rank 1 of 2: its process is gone \(killed\)") as caught:
        answers([follows, done(RuntimeError("killed\nand more"))])
    assert caught.value.exit_code == 71
    with pytest.raises(RankFailed, match="rank 1 of 2: KeyError: 'x'"):
        answers([Future(), done(failing(KeyError("x")))])  # the other waits for ever
    monkeypatch.setattr("rltrain.parallel.GRACE_SECONDS", 0.05)
    with pytest.raises(RankFailed, match="rank 0 of 2: nobody answers"):
        answers([follows, Future()])


def test_fingerprints_tell_states_apart_to_the_last_bit():
    state = {"a": [np.array([1.0, 2.0]), {"b": None}], "c": 1}
    same = {"c": 1, "a": [np.array([1.0, 2.0]), {"b": None}]}
    assert fingerprint(state) == fingerprint(same)
    others = [
        {**same, "c": 1.0},
        {**same, "a": [np.array([1.0, np.nextafter(2.0, 3)]), {"b": None}]},
        {**same, "a": [np.array([1.0, 2.0], np.float32), {"b": None}]},
        {**same, "a": [np.array([[1.0], [2.0]]), {"b": None}]},
        {**same, "a": [np.array([1.0, 2.0])]},
    ]
    assert len({fingerprint(other) for other in [state, *others]}) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "ppo_cartpole", "train.data_parallel=1,2", "--seeds", "1"], "for one run alone"),
        (["tune", "tune/ppo_cartpole", "train.data_parallel=2"], "for one run alone"),
        (["train", "ppo_cartpole", "--engine", "ray"], "a single run has one process"),
        (["train", "ppo_cartpole", "train.data_parallel=2"], "pip install 'rltrain[distributed]'"),
    ],
)
def test_commands_that_cannot_have_several_ranks_say_so_before_anything_is_written(
    arguments, words, tmp_path, monkeypatch
):
    verb, config, *rest = arguments
    monkeypatch.setattr("rltrain.cluster.find_spec", lambda name: None)  # Ray is not installed
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [verb, str(ROOT / "configs" / f"{config}.yaml"), *rest])
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)
    assert not list(tmp_path.iterdir())

"""What holds for every bonus: its scale, its limit, its clock, its state, and its place in the loop."""

import json

import gymnasium as gym
import numpy as np
import pytest
from streams import REAL, TWO, bonus, walk

from rltrain import checkpoint
from rltrain.config.load import from_dict
from rltrain.core import ConfigError, EnvSpec
from rltrain.experiment import build
from rltrain.fitting import notes, problems
from rltrain.registry import names

NAMES = names("bonuses")
NINE = gym.spaces.Discrete(9, start=2)
FAST = {"rnd": {"batch_size": 8}, "icm": {"batch_size": 8}}
SPACES = {
    "a table": (NINE, TWO),
    "numbers": (REAL, gym.spaces.Discrete(3, start=-1)),
    "a box of actions": (REAL, gym.spaces.Box(-2.0, 2.0, (2,), np.float32)),
    "several choices": (gym.spaces.MultiDiscrete([3, 4]), gym.spaces.MultiDiscrete([2, 3])),
    "bits": (gym.spaces.MultiBinary(5), gym.spaces.MultiBinary(3)),
    "pixels": (gym.spaces.Box(0, 255, (2, 6, 5), np.uint8), TWO),
}
PAIRS = [(name, spaces) for name in NAMES for spaces in SPACES if name != "count" or spaces == "a table"]


def canonical(state):
    arrays = {}
    tree = checkpoint._outline(state, "", arrays)
    return json.dumps(tree), {name: array.tobytes() for name, array in arrays.items()}


def paid(part, steps):
    return np.array([part.bonus(step) for step in steps])


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(("name", "spaces"), PAIRS)
def test_bonuses_are_finite_and_not_negative_and_go_on_alike_from_a_saved_state(name, spaces, num_envs, tmp_path):
    env = EnvSpec("x", *SPACES[spaces], num_envs)
    first, second = (bonus(name, env, seed=1, **FAST.get(name, {})) for _ in range(2))
    early, late = list(walk(env, 37)), list(walk(env, 37, seed=1))
    given = paid(first, early)
    assert given.shape == (37, num_envs)
    assert given.dtype == np.float32
    assert np.isfinite(given).all()
    assert (given >= 0).all()
    assert given.max() > 0
    paid(second, late[:11])  # what it did before is forgotten by loading
    second.load_state_dict(
        checkpoint.load(checkpoint.save(tmp_path, 1, first.state_dict(), config={}, score=None)).state
    )
    assert canonical(second.state_dict()) == canonical(first.state_dict())
    np.testing.assert_array_equal(paid(first, late), paid(second, late))
    assert canonical(second.state_dict()) == canonical(first.state_dict())
    assert str(first.metrics()) == str(second.metrics())


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_stays_as_it_was(name):
    env = EnvSpec("x", NINE, TWO, 2)
    part = bonus(name, env, **FAST.get(name, {}))
    paid(part, walk(env, 20))
    state = part.state_dict()
    before = canonical(state)
    paid(part, walk(env, 30, seed=1))
    assert canonical(state) == before


@pytest.mark.parametrize("name", NAMES)
def test_scale_follows_environment_steps_and_clip_is_the_greatest_bonus(name):
    env = EnvSpec("x", NINE, TWO, 2)
    steps = list(walk(env, 20))
    plain = paid(bonus(name, env, scale=1.0), steps)
    ramp = {"schedule": "linear", "start": 3.0, "end": 1.0, "steps": 20}
    factors = np.array([max(3 - 2 * 2 * t / 20, 1.0) for t in range(20)])[:, None]  # two environments a step
    scheduled = bonus(name, env, scale=ramp)
    np.testing.assert_allclose(paid(scheduled, steps), factors * plain, rtol=1e-5)
    assert scheduled.metrics()["scale"] == 1.0
    assert "scale" not in bonus(name, env, scale=2.0).metrics()
    limit = float(np.median(plain))
    clipped = paid(bonus(name, env, scale=2.0, clip=limit), steps)
    np.testing.assert_allclose(clipped, np.minimum(2 * plain, limit), rtol=1e-5)
    assert (paid(bonus(name, env, scale=0.0), steps) == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bad",
    [
        {"scale": -0.1},
        {"scale": 1e39},
        {"clip": 0},
        {"scale": {"schedule": "linear", "start": 1, "end": -1, "steps": 9}},
    ],
)
def test_a_negative_scale_and_a_clip_of_nothing_are_refused(name, bad):
    with pytest.raises(ConfigError, match=r"bonuses\[0\]"):
        config(bonuses=[{"name": name, **bad}])


def config(agent="q_learning", env="FrozenLake-v1", bonuses=(), num_envs=1, **more):
    data = {
        "env": {"id": env, "num_envs": num_envs},
        "agent": {"name": agent},
        "bonuses": list(bonuses),
        "train": {"total_steps": 20_000, "compile": "off"},
        "seed": 0,
        "device": "cpu",
        **more,
    }
    if agent not in ("ppo", "a2c"):
        data["exploration"] = {"name": "epsilon_greedy", "epsilon": 1.0}
    return from_dict(data).config


@pytest.mark.parametrize("name", NAMES)
def test_what_is_reported_never_contains_the_bonus(name):
    """Random actions by equal generators: the returns are those of the run without it, and the table is not."""
    plain, rewarded = build(config()), build(config(bonuses=[{"name": name, "scale": 7.0}]))
    its, mine = plain.loop.advance(600), rewarded.loop.advance(600)
    assert mine.returns == its.returns
    assert len(its.returns) > 30
    assert set(its.returns) <= {0.0, 1.0}
    assert not np.array_equal(plain.agent.memory.q, rewarded.agent.memory.q)
    assert float(np.mean(mine.metrics["exploration/bonus"])) > 0


def test_a_bonus_forgets_an_episode_that_cannot_be_repeated(unrepeatable):
    made = config(env=unrepeatable, bonuses=[{"name": "episodic"}])
    first, second = build(made), build(made)
    first.loop.advance(6)
    assert first.loop._bonuses["episodic"].seen.tolist() == [7]
    with pytest.warns(UserWarning, match="begins anew"):
        second.loop.load_state_dict(first.loop.state_dict())
    assert second.loop._bonuses["episodic"].seen.tolist() == [0]


def test_several_bonuses_are_added_up_and_each_is_reported_under_its_name():
    several = [
        {"name": "count", "scale": 0.5},
        {"name": "count", "over": "state_action"},
        {"name": "hashed_count", "scale": 0.2},
    ]
    run = build(config(bonuses=several))
    seen = []
    observe = run.agent.observe
    run.agent.observe = lambda transition: (seen.append(transition.reward.copy()), observe(transition))
    metrics = run.loop.advance(1).metrics
    parts = [metrics[f"exploration/bonus_{name}"] for name in ("count", "count_2", "hashed_count")]
    np.testing.assert_allclose(parts, [[0.5], [0.1], [0.2]], rtol=1e-6)
    np.testing.assert_allclose(metrics["exploration/bonus"], np.sum(parts, 0), rtol=1e-6)
    np.testing.assert_allclose(seen[0], np.sum(parts, 0), rtol=1e-6)  # FrozenLake pays nothing at first
    assert metrics["exploration/hashed_count_entries"] == 1
    alone = build(config(bonuses=several[:1])).loop.advance(1).metrics
    assert [name for name in alone if "exploration/bonus" in name] == ["exploration/bonus"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "count"])
@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_every_bonus_sees_pixels_beside_an_agent_that_does(name, agent):
    short = {"n_steps": 8, "batch_size": 8} if agent == "ppo" else {}
    made = config(agent, "rltrain/Catch-v0", [{"name": name}], **({"exploration": None} if agent == "ppo" else {}))
    made = made.model_copy(update={"agent": made.agent.model_copy(update=short)})
    assert problems(made) == []
    given = build(made).loop.advance(64).metrics["exploration/bonus"]
    assert np.max(given) > 0


def test_the_memory_of_long_episodes_of_pixels_is_told():
    made = config("ppo", "rltrain/Catch-v0", [{"name": "episodic", "memory_size": 2_000_000}], num_envs=2)
    assert "episodic remembers 2,000,000 observations of an episode: 1.5 GiB at most" in notes(made)
    assert not [told for told in notes(config("ppo", "rltrain/Catch-v0", [{"name": "episodic"}])) if "episodic" in told]


def test_where_a_bonus_does_not_fit_the_reason_and_another_way_are_told():
    cases = [
        ({"name": "count"}, "CartPole-v1", "use hashed_count"),
        ({"name": "hashed_count", "hash": "bins"}, "CartPole-v1", "set low and high, or use hash: simhash"),
        ({"name": "hashed_count", "low": [0.0, 1.0]}, "CartPole-v1", "low has 2 numbers"),
        ({"name": "hashed_count", "low": [9.0] * 4, "high": [1.0] * 4}, "CartPole-v1", "below that of high"),
        ({"name": "hashed_count", "high": [1.0]}, "FrozenLake-v1", "high is for Box observations"),
    ]
    cases += [({"name": name}, "Blackjack-v1", "add the wrapper flatten") for name in NAMES if name != "count"]
    for part, env, told in cases:
        found = problems(config("dqn", env, bonuses=[part]))
        assert any(told in problem.message for problem in found if problem.path == "bonuses"), (part, found)
    for name in ("count", "hashed_count"):
        found = problems(config("ppo", "Pendulum-v1", bonuses=[{"name": name, "over": "state_action"}]))
        assert "count over state" in found[-1].message
    for extra in ({"bins": 4}, {"hash": "bins", "bits": 4}):
        with pytest.raises(ConfigError, match="leave it out"):
            config(bonuses=[{"name": "hashed_count", **extra}])

"""The environments that tell exploration strategies apart: their best returns, and that their tables are true."""

import gymnasium as gym
import numpy as np
import pytest

import rltrain.envs.vector  # noqa: F401, registers them
from rltrain.config.schema import EnvSettings
from rltrain.envs import own
from rltrain.envs.model import read_model
from rltrain.kernels.world import model_is_true
from rltrain.mdp import finite_horizon_optimum, finite_horizon_value, one_hot

IDS = ["rltrain/DeepSea-v0", "rltrain/RiverSwim-v0", "rltrain/NChain-v0", "rltrain/SparseGrid-v0"]
VARIANTS = [
    *((id, {}) for id in IDS),
    ("rltrain/DeepSea-v0", {"stochastic": True, "size": 5}),
    ("rltrain/NChain-v0", {"slip": 0.0}),
    ("rltrain/SparseGrid-v0", {"slip": 0.2, "room": 3}),
]


def listed():
    return [spec.id for spec in own.makeable()]


def test_the_list_has_ours_and_what_is_installed_and_nothing_that_cannot_be_made(monkeypatch):
    known = listed()
    assert {*IDS, "rltrain/Catch-v0", "rltrain/SwingUp-v0", "CartPole-v1", "MountainCar-v0"} < set(known)
    assert not {"CartPole-v0", "Ant-v2", "GymV21Environment-v0", "Breakout-v4", "phys2d/CartPole-v1"} & set(known)
    for id in known:
        if (spec := gym.spec(id)) and str(spec.entry_point).startswith(("gymnasium.", "rltrain.")):
            gym.make(id, disable_env_checker=True).close()
    monkeypatch.setattr(own.util, "find_spec", lambda name: None)
    assert not {"HalfCheetah-v5", "LunarLander-v3"} & set(listed())


@pytest.mark.parametrize(("module", "id"), [("ale_py", "ALE/Pong-v5"), ("minigrid", "MiniGrid-Empty-5x5-v0"),
                                            ("mujoco", "HalfCheetah-v5"), ("Box2D", "LunarLander-v3")])  # fmt: skip
def test_what_a_package_brings_is_listed_where_it_is_installed(module, id):
    pytest.importorskip(module)
    assert id in listed()


@pytest.mark.parametrize(("id", "kwargs"), VARIANTS, ids=str)
def test_environment_and_table_take_the_same_steps_from_the_same_draws(id, kwargs):
    settings = EnvSettings(id=id, kwargs=kwargs)
    model = read_model(settings)
    assert model is not None
    assert model_is_true(settings, model)


def model_of(id, **kwargs):
    model = read_model(EnvSettings(id=id, kwargs=kwargs))
    assert model is not None
    return model


def optimum(model, horizon):
    return float(model.start @ finite_horizon_optimum(model, horizon))


def rate(model, action):
    """What always taking one action pays a step in the long run."""
    policy = one_hot(np.full(model.states, action), model.actions)
    return float(
        model.start @ (finite_horizon_value(model, policy, 4_001) - finite_horizon_value(model, policy, 4_000))
    )


def test_the_best_of_deep_sea_is_099_and_038_where_moves_fail():
    assert optimum(model_of("rltrain/DeepSea-v0", size=10), 10) == pytest.approx(0.99)
    stochastic = optimum(model_of("rltrain/DeepSea-v0", size=10, stochastic=True), 10)
    # 0.9^9 get there and are paid; a row costs 0.001 as long as no move has failed: 0.001 (1 - 0.9^10) / (1 - 0.9)
    assert stochastic == pytest.approx(0.9**9 - 0.001 * (1 - 0.9**10) / 0.1)


def test_a_move_of_deep_sea_that_fails_goes_straight_down():
    """From row 1, column 1 of 4 to row 2, column 2 or 1, at the same cost."""
    outcomes = gym.make("rltrain/DeepSea-v0", size=4, stochastic=True).unwrapped.P[5].values()
    (right,) = [each for each in outcomes if len(each) == 2]
    assert right == [(0.75, 10, -0.0025, False), (0.25, 9, -0.0025, False)]


def test_swimming_pays_what_its_stationary_distribution_says():
    """Birth and death: each place to the one before as 12, 7, 7, 7, 0.875, so the right end has 3601.5 of 8402.5."""
    model = model_of("rltrain/RiverSwim-v0")
    assert rate(model, 1) == pytest.approx(3601.5 / 8402.5, abs=1e-6)
    assert rate(model, 0) == pytest.approx(0.005)


def test_going_on_in_the_chain_pays_what_its_stationary_distribution_says():
    """The last state has 0.8^4 of the time and pays 10 with 0.8; every state pays 2 for a slip, with 0.2."""
    model = model_of("rltrain/NChain-v0")
    assert rate(model, 0) == pytest.approx(0.8**4 * 8 + 0.4)
    assert rate(model, 0) > rate(model, 1)


def test_key_and_goal_are_thirty_steps_away():
    """10 to the key, 8 down and 2 to the side; then 20 to the opposite corner, through two gaps on the way."""
    model = model_of("rltrain/SparseGrid-v0")
    assert optimum(model, 30) == 1
    assert optimum(model, 29) == 0


def test_the_goal_pays_nothing_without_the_key():
    env = gym.make("rltrain/SparseGrid-v0").unwrapped
    env.reset(seed=0)
    env.s = env.cells.index((1, 10))
    _, reward, over, _, _ = env.step(3)  # up, onto the goal
    assert (reward, over) == (0.0, False)
    env.s = env.cells.index((1, 10)) + len(env.cells)
    _, reward, over, _, _ = env.step(3)
    assert (reward, over) == (1.0, True)


def deep_sea(size, actions, **kwargs):
    """The return of a fixed sequence of moves, 1 for right."""
    env = gym.make("rltrain/DeepSea-v0", size=size, **kwargs)
    state, _ = env.reset(seed=0)
    total, over = 0.0, False
    for move in actions:
        assert not over
        right = next(a for a in (0, 1) if env.unwrapped.P[state][a][0][2] < 0 or len(env.unwrapped.P[state][a]) > 1
                     or env.unwrapped.P[state][a][0][2] > 0)  # fmt: skip
        state, reward, over, _, _ = env.step(right if move else 1 - right)
        total += reward
    assert over
    return total


def test_deep_sea_pays_099_for_the_one_way_down_and_nothing_or_less_for_any_other():
    assert deep_sea(6, [1] * 6) == pytest.approx(1 - 0.01)
    assert deep_sea(6, [0] * 6) == 0
    assert deep_sea(6, [1, 1, 1, 0, 1, 1]) == pytest.approx(-0.01 * 5 / 6)


def test_which_action_means_right_is_drawn_for_every_cell():
    table = gym.make("rltrain/DeepSea-v0", size=20).unwrapped.P
    rights = np.array([[table[state][action][0][2] != 0 for action in (0, 1)] for state in range(400)])
    assert (rights.sum(axis=1) == 1).all()
    assert 120 < rights[:, 0].sum() < 280


def hanging():
    env = gym.make("rltrain/SwingUp-v0")
    env.reset(seed=0)
    return env


def test_a_hanging_pole_pays_nothing_and_a_push_costs():
    env = hanging()
    obs, reward, terminated, _, _ = env.step(1)
    assert obs[2] == pytest.approx(-1, abs=0.01)
    assert (reward, terminated) == (0.0, False)
    assert env.step(0)[1] == env.step(2)[1] == pytest.approx(-0.1)


def placed(x, angle, turning):
    env = hanging()
    env.unwrapped.state = np.array([x, 0.0, angle, turning])
    return env


@pytest.mark.parametrize(
    ("x", "angle", "turning", "reward"),
    [
        (0.0, 0.1, 0.0, 1.0),
        (1.1, 0.0, 0.0, 0.0),
        (0.0, 0.0, 1.5, 0.0),
        (0.0, 0.8, 0.0, 0.0),
        (0.0, 2 * np.pi, 0.0, 1.0),
    ],
)
def test_a_step_pays_where_the_pole_stands_still_near_the_middle(x, angle, turning, reward):
    assert placed(x, angle, turning).step(1)[1] == reward


def test_only_the_end_of_the_track_ends_an_episode():
    assert not placed(0.0, np.pi / 2, 0.0).step(1)[2]
    assert placed(2.5, 0.0, 0.0).step(1)[2]


def test_energy_is_kept_without_a_push():
    """A pole let go at the side comes back to the side, and no higher, for ten seconds."""
    env = placed(0.0, np.pi / 2, 0.0)
    heights = np.array([env.step(1)[0][2] for _ in range(500)])
    assert heights.max() < 0.05
    assert heights[-100:].max() > -0.05
    assert heights.min() == pytest.approx(-1, abs=0.05)

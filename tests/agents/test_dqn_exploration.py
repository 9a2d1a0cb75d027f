"""How DQN explores without a selector's help, and what it counts for one: noisy weights and visits."""

import gymnasium as gym
import numpy as np
import pytest
from test_contracts import canonical
from test_dqn import agent, play

from rltrain.config.load import from_dict
from rltrain.core import ConfigError, EnvSpec
from rltrain.experiment import build
from rltrain.exploration.ucb import Ucb
from rltrain.fitting import notes, problems
from rltrain.hashing import HashSettings, PseudoCounts
from rltrain.nn.modules import module_network

SHORT = {"learning_starts": 20, "buffer_size": 500, "batch_size": 8, "hidden_sizes": [8], "target_update_interval": 40}
OBS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


def config(env="CartPole-v1", exploration=None, num_envs=1, **settings):
    data = {
        "env": {"id": env, "num_envs": num_envs},
        "agent": {"name": "dqn", **SHORT, **settings},
        "train": {"total_steps": 1_000},
        "device": "cpu",
    }
    return from_dict(data | ({} if exploration is None else {"exploration": {"name": exploration}})).config


def noisy(seed=0, **settings):
    made = agent(seed, noisy=True, **settings)
    made._exploration = None
    return made


RUNS = [
    {"noisy": True},
    {"noisy": True, "double": True, "dueling": True, "n_step": 3, "gradient_steps": -1},
    {"visits": {"hash": "simhash", "bits": 6}, "exploration": "ucb"},
    {"visits": {"hash": "bins"}, "exploration": "thompson", "env": "FrozenLake-v1"},
]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("settings", RUNS)
def test_a_run_goes_on_exactly(settings, num_envs):
    made = config(num_envs=num_envs, **settings)
    assert problems(made) == []
    first, second = build(made), build(made)
    first.loop.advance(150)
    second.loop.advance(40)  # what it did before is forgotten by loading
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for run in (first, second):
        run.loop.advance(150)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())


# --- noisy weights


@pytest.mark.parametrize("settings", [{}, {"double": True, "dueling": True, "n_step": 3}])
@pytest.mark.parametrize("seed", range(3))
def test_the_better_action_is_found_by_noise_alone(seed, settings):
    learnt = play(noisy(seed, gamma=0.0, **settings), 300, reward=lambda obs, action: float(action == 1))
    assert learnt.act(OBS[:5] * 0, explore=False).tolist() == [1] * 5


def test_actions_are_uniform_until_there_is_something_to_learn_from():
    dqn = noisy(learning_starts=50)
    dqn.q.network.sigma[:] = 0
    many = np.tile(OBS[:1], (2_000, 1))
    assert 900 < dqn.act(many).sum() < 1_100  # 4 standard deviations are 90
    dqn._steps = 50
    assert dqn.act(many).tolist() == dqn.act(many, explore=False).tolist()


def test_evaluation_takes_the_means_and_draws_nothing():
    dqn = play(noisy(), 30)
    before = canonical(dqn.state_dict())
    expected = dqn.values(OBS)
    for _ in range(3):
        np.testing.assert_array_equal(dqn.act(OBS, explore=False), expected.argmax(1))
    np.testing.assert_array_equal(dqn.values(OBS), expected)
    assert canonical(dqn.state_dict()) == before
    dqn.q.network.sigma[:] = 3.0
    acted = [dqn.act(OBS).tolist() for _ in range(5)]
    assert len({tuple(row) for row in acted}) >= 3
    np.testing.assert_array_equal(dqn.values(OBS), expected)


@pytest.mark.parametrize("double", [False, True])
def test_noise_is_new_for_every_step_and_every_gradient_step_of_either_network(double, monkeypatch):
    """Acting, then two gradient steps: the target's, that of the choice of a', that of the gradient."""
    dqn = noisy(double=double, gradient_steps=2)
    play(dqn, 20)
    drawn = []
    for name, q in (("q", dqn.q), ("target", dqn.target)):
        draw = q.disturb
        monkeypatch.setattr(q, "disturb", lambda rng, name=name, draw=draw: (drawn.append((name, rng)), draw(rng)))
    play(dqn, 1)
    expected = ["q", *["target", *["q"] * (1 + double)] * 2]
    assert [name for name, _ in drawn] == expected
    assert all(rng is dqn._rng for _, rng in drawn)


def test_fused_and_torch_networks_learn_the_same_under_the_same_noise(monkeypatch):
    fused = play(noisy(double=True, dueling=True, n_step=3), 60)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(noisy(double=True, dueling=True, n_step=3), 60)
    np.testing.assert_allclose(fused.values(OBS), module.values(OBS), atol=5e-5)
    assert float(abs(fused.q.network.sigma).mean()) == pytest.approx(
        float(abs(module.q.network.sigma).mean()), rel=1e-4
    )


def test_the_size_of_the_noise_is_learnt_and_reported():
    """4 inputs, 8 units, 2 actions: (40 * 0.5/2 + 18 * 0.5/sqrt(8)) / 58 at first."""
    run = build(config(noisy=True, learning_rate=1e-2))
    size = run.agent.q.metrics()["exploration/sigma"]
    assert size().mean() == pytest.approx((40 * 0.25 + 18 * 0.5 / 8**0.5) / 58, rel=1e-5)
    before = run.agent.q.network.sigma.copy()
    metrics = run.loop.advance(400).metrics
    assert "exploration/epsilon" not in metrics
    assert np.mean(metrics["exploration/sigma"]()) == pytest.approx(np.abs(run.agent.q.network.sigma).mean())
    assert np.abs(run.agent.q.network.sigma - before).max() > 0.01


def test_without_noise_nothing_is_drawn_and_nothing_reported():
    dqn = agent()
    dqn.q.disturb(None)
    dqn.q.disturb(dqn._rng)
    assert dqn._rng.bit_generator.state == agent()._rng.bit_generator.state
    assert dqn.q.metrics() == {}


# --- visits


def test_a_selector_gets_the_visits_of_every_action_in_the_state(monkeypatch):
    """FrozenLake in bins is counted state by state, so a plain table knows the same."""
    run = build(config("FrozenLake-v1", "ucb", num_envs=3, visits={"hash": "bins"}))
    table, seen = np.zeros((16, 4), np.int64), []
    select, observe = Ucb.select, run.agent.observe

    def noted(self, values, step, rng):
        seen.append((values.visits.copy(), table[run.loop._obs]))
        return select(self, values, step, rng)

    def counted(transition):
        np.add.at(table, (transition.obs, transition.action), 1)
        observe(transition)

    monkeypatch.setattr(Ucb, "select", noted)
    monkeypatch.setattr(run.agent, "observe", counted)
    metrics = run.loop.advance(300).metrics
    for mine, expected in seen:
        np.testing.assert_array_equal(mine, expected)
    assert table.sum() == 300
    assert metrics["exploration/entries"] == (table.sum(1) > 0).sum()


def test_actions_that_do_not_begin_at_0_are_counted_in_their_place():
    spec = EnvSpec("x", gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(3, start=5), 2)
    counts = PseudoCounts(HashSettings(hash="bins", bins=2), spec, np.random.default_rng(0))
    here, there = np.array([0.5, 0.5]), np.array([-0.5, 0.5])
    counts.add(np.stack([here, there]), np.array([7, 5]))
    counts.add(np.stack([here + 0.1, here - 0.1]), np.array([7, 6]))
    assert counts(np.stack([there, here, -here])).tolist() == [[1, 0, 0], [0, 1, 2], [0, 0, 0]]
    assert len(counts) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noisy": True, "exploration": "epsilon_greedy"}, "dqn explores by its noisy weights: leave this block out"),
        ({}, "dqn needs an exploration"),
        ({"exploration": "ucb"}, "dqn does not keep: set agent.visits={hash: simhash}"),
        ({"exploration": "thompson"}, "set agent.visits={hash: simhash} or agent.heads=10"),
        ({"exploration": "greedy", "visits": {}}, "nothing reads the visits"),
        ({"noisy": True, "visits": {}}, "nothing reads the visits"),
        ({"exploration": "ucb", "visits": {"hash": "bins"}}, "set low and high, or use hash: simhash"),
        ({"exploration": "greedy", "layer_norm": True, "hidden_sizes": []}, "there is no hidden layer to normalise"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(settings, message):
    (problem,) = problems(config(**settings))
    assert message in problem.message


def test_a_posterior_and_counts_are_refused_beside_heads_which_are_followed_in_their_place():
    part = {"name": "thompson", "prior_std": 5.0}
    data = config(exploration="ucb", visits={}).model_dump(mode="json", exclude_unset=True)
    data["exploration"] = part
    assert problems(from_dict(data).config) == []
    data["agent"] |= {"heads": 3}
    assert [found.path for found in problems(from_dict(data).config)] == ["agent.visits", "exploration.prior_std"]
    data["exploration"] = {"name": "ucb"}
    assert problems(from_dict(data).config) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [({}, True), ({"gradient_steps": 1}, False), ({"gradient_steps": -1}, False), ({"train_freq": 8}, False)],
)
def test_that_many_environments_make_gradient_steps_rarer_is_told(settings, told):
    found = notes(config(exploration="greedy", num_envs=8, **settings))
    assert [note for note in found if "one gradient step in 8 steps, not in 4" in note] == found
    assert bool(found) == told


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("agent.learning_starts", {"learning_starts": 1_000}),
        ("agent.train_freq", {"train_freq": 1_001, "learning_starts": 0}),
        ("agent.train_freq", {"train_freq": 600, "learning_starts": 601}),
        ("agent.target_update_interval", {"target_update_interval": 1_001}),
        ("agent.target_update_interval", {"tau": 0.005, "target_update_interval": 6}),
        (None, {"tau": 0.005, "target_update_interval": 5}),
        (None, {"tau": 0.001, "target_update_interval": 4, "train_freq": 4}),  # as often as it learns
        (None, {"train_freq": 1_000, "target_update_interval": 1_000, "learning_starts": 999}),
        (None, {"train_freq": 600, "learning_starts": 600}),
    ],
)
def test_a_run_in_which_nothing_would_be_learnt_is_refused(path, settings):
    found = problems(config(exploration="greedy", **settings))
    assert [problem.path for problem in found] == ([] if path is None else [path])


def test_one_block_of_gradient_steps_is_enough_to_learn():
    made = build(config(exploration="greedy", train_freq=1_000, learning_starts=999))
    made.loop.advance(1_000)
    assert made.agent.optimizer.state_dict()["step"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noisy_std": 0.1}, "noisy_std is for noisy: true"),
        ({"noisy": True, "heads": 3}, "heads are for a selector"),
        ({"visits": {"hash": "bins", "bits": 4}}, "bits is not for hash bins"),
    ],
)
def test_settings_that_do_nothing_together_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)

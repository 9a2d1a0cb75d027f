"""Policy-gradient agents: what they converge to in probe environments, what they accept, and that they go on exactly."""

import copy
import json

import gymnasium as gym
import numpy as np
import pytest
from policies import AGENTS, CRITICS, LINE, TWO, agent, either, entropy, outputs, play, spec

from rltrain import checkpoint
from rltrain.config.load import from_dict
from rltrain.experiment import build
from rltrain.fitting import notes, problems
from rltrain.nn.modules import module_network

HERE = np.array([[1.0, 0.0]], np.float32)
SEEDS = range(20)
ONE_STEP = {"a2c": {"n_steps": 2, "gae_lambda": 0.0}, "ppo": {"n_steps": 2, "n_epochs": 2, "gae_lambda": 0.0}}


def probability(policy, obs, action):
    odds = np.exp(outputs(policy, obs))
    return odds[action] / odds.sum()


def worth(name, seed, ends, steps):
    """What 1 a step is worth at gamma 0.98 where episodes of 8 steps end so, in the eyes of a critic."""
    rate = {"schedule": "linear", "start": 0.15, "end": 0.005, "steps": 8 * steps}
    settings = {"episodes_per_update": 4} if name == "reinforce" else ONE_STEP.get(name, {})
    learnt = agent(name, seed, envs=8, gamma=0.98, learning_rate=rate, **settings)
    return float(play(learnt, steps, envs=8, ends=ends).values(HERE)[0])


@pytest.mark.parametrize(("name", "steps"), [("reinforce", 200), ("actor_critic", 100), ("a2c", 160), ("ppo", 200)])
def test_reward_1_for_ever_is_worth_50_at_gamma_098_although_episodes_are_cut_at_8(name, steps):
    values = [worth(name, seed, "truncated", steps) for seed in SEEDS]
    assert values == pytest.approx([50] * 20, abs=2.5)


@pytest.mark.parametrize(
    ("name", "expected"), [("reinforce", 4.30), ("actor_critic", 7.02), ("a2c", 7.02), ("ppo", 7.02)]
)
def test_the_same_with_real_ends_is_worth_less(name, expected):
    """By TD errors v = 1 + 0.98 * 7/8 v = 7.02. By returns the mean of (1 - 0.98^k) / 0.02 over k = 1..8, 4.30."""
    values = [worth(name, seed, "terminated", 120) for seed in SEEDS]
    assert values == pytest.approx([expected] * 20, abs=0.5)


@pytest.mark.parametrize("name", AGENTS)
def test_the_better_action_and_its_worth_are_learnt_on_every_seed(name):
    for seed in SEEDS:
        learnt = agent(name, seed, envs=8, learning_rate=3e-2)
        play(learnt, 60, envs=8, length=1, ends="terminated", reward=lambda obs, action: float(action == 1))
        assert learnt.act(np.repeat(HERE, 5, 0), explore=False).tolist() == [1] * 5
        assert probability(learnt, [1, 0], 1) > 0.9
        if name in CRITICS:
            assert learnt.values(HERE)[0] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", AGENTS)
def test_the_best_action_of_each_observation_is_learnt_on_every_seed(name):
    for seed in SEEDS:
        learnt = agent(name, seed, envs=8, learning_rate=3e-2)
        paid = lambda obs, action: float(action == (obs[0] > 0))  # noqa: E731
        play(learnt, 60, envs=8, length=1, ends="terminated", sees=either, reward=paid, seed=seed)
        assert min(probability(learnt, [-1, 1], 0), probability(learnt, [1, 1], 1)) > 0.9


CONTINUOUS = {
    "reinforce_alone": {"normalize_returns": True},
    "a2c": {"n_steps": 1, "normalize_advantage": True},
    "ppo": {"n_steps": 1, "n_epochs": 3},
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("settings", "rate", "seeds"),
    [({}, 3e-2, 20), ({"squash": True}, 3e-2, 8), ({"state_dependent_std": True}, 8e-3, 8)],
    ids=["free", "squashed", "by state"],
)
def test_the_mean_goes_where_the_reward_is_greatest(name, settings, rate, seeds):
    """The reward is -(a - 0.5)^2 in a box from -1 to 2; squashed, the network's mean is 0 there."""
    for seed in range(seeds):
        falling = {"schedule": "linear", "start": rate, "end": rate / 20, "steps": 16 * 80}
        own = {**CONTINUOUS.get(name, {}), **settings, "learning_rate": falling, "gamma": 0.0, "log_std_init": -0.5}
        learnt = agent(name, seed, actions=LINE, envs=16, **own)
        learnt.network.parameters[-2] += 0.7 * (not own.get("state_dependent_std"))  # begins elsewhere
        paid = lambda obs, action: -((action[0] - 0.5) ** 2)  # noqa: E731
        play(learnt, 80, envs=16, length=1, ends="terminated", reward=paid, seed=seed)
        assert learnt.act(HERE, explore=False)[0, 0] == pytest.approx(0.5, abs=0.15), seed


@pytest.mark.parametrize("name", ["a2c", "ppo"])
@pytest.mark.parametrize(
    ("actions", "settings"),
    [(TWO, {}), (LINE, {}), (LINE, {"squash": True}), (LINE, {"state_dependent_std": True})],
    ids=["discrete", "continuous", "squashed", "by state"],
)
def test_an_entropy_bonus_alone_raises_the_entropy_for_100_updates(name, actions, settings):
    """Reward 0 and a critic that says 0: every TD error is 0, so that nothing else moves the policy."""
    own = {"batch_size": 4, "n_epochs": 1} if name == "ppo" else {}

    def entropies(ent_coef):
        learnt = agent(name, actions=actions, ent_coef=ent_coef, learning_rate=1e-3, **own, **settings)
        learnt.network.parameters[: 2 * 16 + 16 + 16 + 1] = 0  # the critic's
        if actions is TWO:
            learnt.network.parameters[-2:] = [1, -1]  # the last biases: far from uniform
        steps = (play(learnt, 4, reward=lambda obs, action: 0.0, length=3) for _ in range(100))
        return [entropy(learnt), *(entropy(after) for after in steps)]

    raised = entropies(0.01)
    assert (np.diff(raised) > 0).all()
    assert raised[-1] - raised[0] > 0.09
    assert len(set(entropies(0.0))) == 1


NETWORKS = {
    "discrete": (TWO, {}),
    "several": (gym.spaces.MultiDiscrete([2, 3]), {"ent_coef": 0.02}),
    "continuous": (LINE, {"ent_coef": 0.02}),
    "by state, squashed": (LINE, {"state_dependent_std": True, "squash": True}),
    "shared": (LINE, {"shared_network": True}),
}


@pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n in AGENTS for c in NETWORKS if (n, c) != ("reinforce_alone", "shared")]
)
def test_fused_and_autograd_networks_learn_the_same(name, case, monkeypatch):
    actions, settings = NETWORKS[case]
    extra = {"critic_learning_rate": 0.05} if name == "actor_critic" and case != "shared" else {}
    short = {"episodes_per_update": 4} if name.startswith("reinforce") else {}
    settings = {"learning_rate": 3e-3, **settings, **extra, **short}
    paid = lambda obs, action: float(np.sum(action)) * obs[0]  # noqa: E731

    def learnt():
        return play(agent(name, actions=actions, envs=2, **settings), 24, envs=2, length=5, sees=either, reward=paid)

    fused, begun = learnt(), agent(name, actions=actions, envs=2, **settings)
    monkeypatch.setattr("rltrain.on_policy.build", module_network)
    module = learnt()
    assert module.network.device == "cpu"
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_allclose(fused.network.infer(obs), module.network.infer(obs), atol=1e-4)
    assert np.abs(fused.network.infer(obs) - begun.network.infer(obs)).max() > 1e-2


def canonical(state):
    arrays = {}
    tree = checkpoint._outline(state, "", arrays)
    return json.dumps(tree), {key: (array.dtype.str, array.tobytes()) for key, array in arrays.items()}


@pytest.mark.parametrize("actions", [TWO, LINE], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", AGENTS)
def test_state_taken_in_the_middle_of_a_rollout_goes_on_the_same(name, actions):
    extra = {"discount_weighting": True} if name in ("actor_critic", "reinforce") else {}
    extra |= {"critic_learning_rate": 0.01} if name == "actor_critic" else {}
    short = {"episodes_per_update": 4} if name.startswith("reinforce") else {}
    first, second = (agent(name, seed, actions=actions, envs=3, **extra, **short) for seed in (0, 1))
    play(first, 18, envs=3, length=7)  # 18 is no multiple of 4, and every episode is open
    play(second, 3, envs=3)
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(copy.deepcopy(state))
    assert canonical(second.state_dict()) == canonical(state)
    for one in (first, second):
        play(one, 15, envs=3, seed=5, sees=either)
    assert canonical(first.state_dict()) == canonical(second.state_dict()) != canonical(state)


OBSERVATIONS = {
    "discrete": gym.spaces.Discrete(5, start=2),
    "several": gym.spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "binary": gym.spaces.MultiBinary(4),
    "double": gym.spaces.Box(-1, 1, (3,), np.float64),
}
SIZES = {"discrete": 5, "several": 7, "binary": 4, "double": 3}
DICT = gym.spaces.Dict({"place": gym.spaces.Box(-1, 1, (2,), np.float32), "goal": gym.spaces.Discrete(3)})


class Seen(gym.Env):
    """Any observation of a space, episodes of four steps."""

    action_space = gym.spaces.MultiDiscrete([2, 2], start=[1, 0])

    def __init__(self, name):
        self.observation_space = DICT if name == "dict" else OBSERVATIONS[name]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        return self.observation_space.sample(), float(action[0] == 1), self.count == 4, False, {}


@pytest.fixture
def seen():
    gym.register("Seen-v0", Seen)
    yield
    del gym.registry["Seen-v0"]


def config(name, env="Seen-v0", *, observes=None, wrappers=(), **settings):
    data = {
        "env": {"id": env, "num_envs": 2, "wrappers": list(wrappers)}
        | ({"kwargs": {"name": observes}} if observes else {}),
        "agent": {"name": name, **({"n_steps": 8, "batch_size": 8} if name == "ppo" else {}), **settings},
        "train": {"total_steps": 1_000},
        "device": "cpu",
    }
    return from_dict(data).config


@pytest.mark.parametrize("observes", OBSERVATIONS)
@pytest.mark.parametrize("name", ["reinforce", "actor_critic", "a2c", "ppo"])
def test_vectors_and_numbers_of_things_are_observed(name, observes, seen):
    made = config(name, observes=observes)
    assert problems(made) == []
    experiment = build(made)
    before = experiment.agent.network.parameters.copy()
    experiment.loop.advance(100)
    assert experiment.agent._seen.shape == (2, SIZES[observes])
    assert not np.array_equal(experiment.agent.network.parameters, before)


@pytest.mark.parametrize("name", ["reinforce", "actor_critic", "a2c", "ppo"])
def test_other_observations_are_refused_with_the_advice_to_flatten_and_then_work(name, seen):
    (found,) = problems(config(name, observes="dict"))
    assert found.path == "agent.name"
    assert "flatten" in found.message
    made = config(name, observes="dict", wrappers=[{"name": "flatten"}])
    assert problems(made) == []
    experiment = build(made)
    experiment.loop.advance(100)
    assert experiment.agent._seen.shape == (2, 5)  # two numbers, and three for one of three


@pytest.mark.parametrize(
    ("name", "settings", "path", "words"),
    [
        ("ppo", {"squash": True}, "agent.squash", "continuous"),
        ("reinforce", {"squash": True}, "agent.squash", "continuous"),
        ("ppo", {"n_steps": 8, "batch_size": 17}, "agent.batch_size", "8 steps of 2 environments are 16"),
        ("ppo", {"n_steps": 501}, "agent.n_steps", "never full"),
        ("a2c", {"n_steps": 501}, "agent.n_steps", "never full"),
        ("ppo", {"log_std_init": -1.0}, "agent.log_std_init", "continuous"),
        ("reinforce", {"state_dependent_std": True}, "agent.state_dependent_std", "continuous"),
        ("actor_critic", {"shared_network": True, "critic_learning_rate": 1e-3}, "agent.critic_learning_rate", "share"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_their_place(name, settings, path, words):
    (found,) = problems(config(name, "CartPole-v1", **settings))
    assert found.path == path
    assert words in found.message


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("reinforce", {"baseline": False, "vf_coef": 0.1}, "vf_coef does nothing without a baseline"),
        ("reinforce", {"baseline": False, "shared_network": True}, "shared_network does nothing without a baseline"),
        ("reinforce", {"optimizer": "sgd", "optimizer_eps": 1e-3}, "optimizer_eps does nothing with sgd"),
        ("a2c", {"optimizer": "sgd", "optimizer_eps": 1e-3}, "optimizer_eps does nothing with sgd"),
    ],
)
def test_settings_that_another_has_put_out_of_use_are_told(name, settings, words):
    """Not refused: a search may switch what they belong to."""
    assert notes(config(name, "CartPole-v1", **settings)) == [f"agent.{words}"]
    assert notes(config(name, "CartPole-v1", **dict(list(settings.items())[:1]))) == []


@pytest.mark.parametrize("name", ["reinforce", "actor_critic", "a2c", "ppo"])
def test_squashing_an_unbounded_box_is_refused(name):
    unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    made = config(name, "Pendulum-v1", squash=True)
    assert problems(made) == []
    (found,) = made.agent.problems(made, spec(unbounded, 2))
    assert found.path == "agent.squash"
    assert "bounded" in found.message

"""Distributions over actions: densities against torch's and numerical ones, gradients against autograd, draws."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rltrain.agents.ppo import _approximate_kl
from rltrain.nn.distributions import action_problem, distribution

Box, Discrete, MultiBinary, MultiDiscrete = (
    gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiBinary, gym.spaces.MultiDiscrete,
)  # fmt: skip
ASYMMETRIC = Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 7.0], np.float32))
DISCRETE = {
    "discrete": Discrete(4, start=-2),
    "several": MultiDiscrete([2, 5, 3], start=[1, -5, 0]),
    "a matrix of several": MultiDiscrete([[2, 3], [4, 2]]),
    "binary": MultiBinary(3),
    "a matrix of binary": MultiBinary((2, 2)),
}
CONTINUOUS = {
    "free": {"by_state": False, "squash": False},
    "by state": {"by_state": True, "squash": False},
    "squashed": {"by_state": False, "squash": True},
    "by state, squashed": {"by_state": True, "squash": True},
}


def gaussian(name="free", space=ASYMMETRIC, log_std=-0.3):
    return distribution(space, log_std=log_std, **CONTINUOUS[name])


def categorical(space):
    return distribution(space, log_std=0.0, by_state=False, squash=False)


def families():
    return [categorical(space) for space in DISCRETE.values()] + [gaussian(name) for name in CONTINUOUS]


NAMES = [*DISCRETE, *CONTINUOUS]


def drawn(policy, rows, seed=0):
    """Outputs, choices, and weights of log-probabilities, in double precision."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, policy.outputs))
    choice = policy.sample(outputs.astype(np.float32), rng)
    if policy.choice_dtype is np.float32:
        choice = choice.astype(np.float64)
    return outputs, choice, rng.normal(size=rows)


def theirs(name, policy, outputs, choice):
    """Log-probability and entropy by torch.distributions."""
    if name in DISCRETE:
        space = DISCRETE[name]
        counts = (
            [space.n] if name == "discrete" else getattr(space, "nvec", np.full(space.shape, 2)).reshape(-1).tolist()
        )
        parts = [torch.distributions.Categorical(logits=block) for block in outputs.split(counts, 1)]
        log_prob = sum(part.log_prob(choice[:, k]) for k, part in enumerate(parts))
        return log_prob, sum(part.entropy() for part in parts)
    mean, log_std = outputs.chunk(2, 1)
    normal = torch.distributions.Normal(mean, torch.exp(log_std + (-0.3 if "by state" in name else 0)))
    log_prob = normal.log_prob(choice)
    if "squashed" in name:
        low, high = (torch.tensor(bound, dtype=torch.float64) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))
        log_prob = log_prob - torch.log((1 - torch.tanh(choice) ** 2) * (high - low) / 2)
    return log_prob.sum(1), normal.entropy().sum(1)


@pytest.mark.parametrize(("name", "policy"), list(zip(NAMES, families(), strict=True)), ids=NAMES)
def test_log_probability_and_entropy_are_torchs(name, policy):
    outputs, choice, _ = map(torch.from_numpy, drawn(policy, 50))
    mine, (log_prob, entropy) = policy.evaluate(outputs, choice), theirs(name, policy, outputs, choice)
    torch.testing.assert_close(mine.log_prob, log_prob, rtol=1e-7, atol=1e-7)  # bounds of the box are single
    torch.testing.assert_close(mine.entropy, entropy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("policy", families(), ids=NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 9), d_entropy=st.sampled_from([0.0, -0.3, 2.0]))
def test_what_is_pulled_back_to_the_outputs_is_autograds(policy, seed, rows, d_entropy):
    outputs, choice, weight = map(torch.from_numpy, drawn(policy, rows, seed))
    pulled = policy.evaluate(outputs, choice).pull(weight, d_entropy)
    outputs.requires_grad_()
    evaluated = policy.evaluate(outputs, choice)
    ((evaluated.log_prob * weight).sum() + d_entropy * evaluated.entropy.sum()).backward()
    torch.testing.assert_close(pulled, outputs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("policy", families(), ids=NAMES)
def test_numpy_and_torch_agree_and_single_precision_stays_single(policy):
    outputs, choice, weight = drawn(policy, 20)
    tensors = [torch.from_numpy(array) for array in (outputs, choice, weight)]
    mine, its = policy.evaluate(outputs, choice), policy.evaluate(*tensors[:2])
    for one, other in zip([*mine[:2], mine.pull(weight, 0.7)], [*its[:2], its.pull(tensors[2], 0.7)], strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-10, atol=1e-10)
    single = policy.evaluate(outputs.astype(np.float32), choice.astype(policy.choice_dtype))
    parts = [*single[:2], single.pull(weight.astype(np.float32), 0.7)]
    assert [part.dtype for part in parts] == [np.float32] * 3
    np.testing.assert_allclose(single.log_prob, mine.log_prob, rtol=1e-4, atol=1e-4)


def test_great_outputs_give_certain_choices_and_no_nan():
    """Of outputs 1000 and 0 the first has probability 1 in single precision: log p is 0 and -1000, the entropy 0."""
    policy = categorical(Discrete(2))
    outputs, choice = np.array([[1000.0, 0.0], [1000.0, 0.0]], np.float32), np.array([[0], [1]])
    log_prob, entropy, pull = policy.evaluate(outputs, choice)
    assert log_prob.tolist() == [0.0, -1000.0]
    assert entropy.tolist() == [0.0, 0.0]
    assert pull(np.ones(2, np.float32), 1.0).tolist() == [[0.0, 0.0], [-1.0, 1.0]]


@pytest.mark.parametrize("seed", range(5))
def test_choices_come_as_often_as_their_probabilities_say(seed):
    """Two blocks of 2 and 3 are drawn independently: 6 pairs, whose probabilities are products."""
    policy = categorical(MultiDiscrete([2, 3]))
    outputs = np.array([0.3, -0.9, 1.2, 0.0, -2.0], np.float32)
    choice = policy.sample(np.tile(outputs, (30_000, 1)), np.random.default_rng(seed))
    first, second = np.exp(outputs[:2].astype(float)), np.exp(outputs[2:].astype(float))
    expected = 30_000 * np.outer(first / first.sum(), second / second.sum())
    counts = np.zeros((2, 3))
    np.add.at(counts, (choice[:, 0], choice[:, 1]), 1)
    assert stats.chisquare(counts.ravel(), expected.ravel()).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["free", "by state"])
def test_gaussian_draws_have_the_mean_and_standard_deviation_of_the_outputs(seed, name):
    """With the standard deviation by state, exp(-0.3) is where the network's 0 stands."""
    policy = gaussian(name)
    shift = 0.3 if name == "by state" else 0.0
    outputs = np.tile(np.array([0.5, -3.0, math.log(0.2) + shift, math.log(2) + shift], np.float32), (20_000, 1))
    draws = policy.sample(outputs, np.random.default_rng(seed))
    for k, (mean, std) in enumerate([(0.5, 0.2), (-3.0, 2.0)]):
        assert stats.kstest(draws[:, k], "norm", (mean, std)).pvalue > 1e-4
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03  # 4 / sqrt(20 000)


def test_every_row_is_drawn_from_its_own_outputs():
    outputs = np.array([[100, 0, 0], [0, 100, 0], [0, 0, 100]], np.float32)
    rng = np.random.default_rng(0)
    assert all(categorical(Discrete(3)).sample(outputs, rng)[:, 0].tolist() == [0, 1, 2] for _ in range(20))
    means = np.array([[10, 20, -5, -5], [30, 40, -5, -5]], np.float32)
    np.testing.assert_allclose(gaussian().sample(means, rng), means[:, :2], atol=0.05)


LINE = Box(-2.0, 5.0, (1,), np.float32)


def squashed_density(a):
    """Of the action a, with u ~ N(0.4, 0.8^2)."""
    u = np.arctanh((a + 2) / 7 * 2 - 1)
    outputs = np.tile([0.4, math.log(0.8)], (len(a), 1))
    return np.exp(gaussian("squashed", LINE).evaluate(outputs, u[:, None]).log_prob)


def test_the_squashed_density_integrates_to_1_over_the_box():
    a = np.linspace(-2, 5, 200_001)[1:-1]
    assert np.trapezoid(squashed_density(a), a) == pytest.approx(1, abs=1e-4)


def test_the_squashed_density_is_the_slope_of_the_distribution_function():
    """P(action <= a) = Phi((u(a) - mean) / std), since squashing rises."""
    a, step = np.linspace(-1.8, 4.8, 200), 1e-5

    def below(a):
        return stats.norm.cdf((np.arctanh((a + 2) / 7 * 2 - 1) - 0.4) / 0.8)

    np.testing.assert_allclose(squashed_density(a), (below(a + step) - below(a - step)) / (2 * step), rtol=1e-4)
    action = gaussian("squashed", LINE).action(np.array([[0.0], [50.0], [-50.0], [math.atanh(0.5)]], np.float32))
    np.testing.assert_allclose(action[:, 0], [1.5, 5.0, -2.0, 3.25], rtol=1e-6)  # 1.5 + 3.5 * tanh(u)


@pytest.mark.parametrize("u", [30.0, 100.0])
def test_squashed_log_probabilities_stay_finite_far_out(u):
    """u under N(u, 1), on both sides: log(1 - tanh^2 u) = log 4 - 2u, and the box is 2 * 3.5 wide."""
    policy = gaussian("squashed", LINE)
    outputs, choice = np.array([[u, 0.0], [-u, 0.0]], np.float32), np.array([[u], [-u]], np.float32)
    log_prob, _, pull = policy.evaluate(outputs, choice)
    expected = -0.5 * math.log(2 * math.pi) - (math.log(4) - 2 * u + math.log(3.5))
    np.testing.assert_allclose(log_prob, [expected, expected], rtol=1e-6)
    assert np.isfinite(pull(np.ones(2, np.float32), 1.0)).all()


SPACES = [
    (Discrete(3), False), (Discrete(1), False), (Discrete(4, start=-2), False), (Discrete(5, start=1), False),
    (MultiDiscrete([2, 5, 3]), False), (MultiDiscrete([3, 4], start=[1, -5]), False),
    (MultiDiscrete([[2, 3], [4, 2]]), False), (MultiBinary(4), False), (MultiBinary((2, 3)), False),
    (Box(-1, 1, (2,), np.float32), False), (ASYMMETRIC, False), (ASYMMETRIC, True),
    (Box(0, np.inf, (3,), np.float32), False), (Box(-np.inf, np.inf, (2,), np.float64), False),
    (Box(-0.1, 0.3, (2, 3), np.float64), True), (Box(-0.3, 0.7, (2,), np.float16), True),
]  # fmt: skip


@pytest.mark.parametrize(("space", "squash"), SPACES, ids=str)
@pytest.mark.parametrize("by_state", [False, True])
def test_actions_lie_in_the_space(space, squash, by_state):
    assert action_problem(space, squash=squash) is None
    policy = distribution(space, log_std=0.5, by_state=by_state, squash=squash)
    rng = np.random.default_rng(0)
    for scale in (0.1, 1, 15):
        outputs = (scale * rng.normal(size=(200, policy.outputs))).astype(np.float32)
        if policy.free is not None:
            outputs[:, -len(policy.free) :] = policy.free
        for choice in (policy.sample(outputs, rng), policy.mode(outputs)):
            assert choice.shape == (200, policy.choice_size)
            actions = policy.action(choice)
            assert all(space.contains(action) for action in actions)
            assert actions.dtype == space.dtype


@pytest.mark.parametrize(("space", "count"), [(Discrete(4, start=-2), 4), (MultiDiscrete([3, 2], start=[1, -5]), 6)])
def test_every_action_of_a_space_that_begins_elsewhere_is_reached(space, count):
    policy = categorical(space)
    outputs = np.zeros((500, policy.outputs), np.float32)
    actions = policy.action(policy.sample(outputs, np.random.default_rng(0)))
    assert len(np.unique(actions, axis=0)) == count
    lowest = policy.action(np.zeros((1, policy.choice_size), np.int64))
    assert np.array_equal(lowest[0], space.start)


def test_an_action_is_cut_only_for_the_environment():
    """The choice, whose probability is learnt from, stays where it was drawn."""
    policy = gaussian()
    outputs = np.tile(np.array([3.0, 0.0, 0.0, 0.0], np.float32), (100, 1))
    choice = policy.sample(outputs, np.random.default_rng(0))
    drawn = choice.copy()
    actions = policy.action(choice)
    assert (choice[:, 0] > 1.0).mean() > 0.9  # mean 3, standard deviation 1, the box ends at 1
    assert np.array_equal(choice, drawn)
    assert np.array_equal(actions, np.clip(choice, ASYMMETRIC.low, ASYMMETRIC.high))


@pytest.mark.parametrize(("name", "policy"), list(zip(NAMES, families(), strict=True)), ids=NAMES)
def test_entropy_is_the_mean_of_minus_log_probability(name, policy):
    """Squashed, the entropy is documented to be that of the draw before squashing."""
    row = drawn(policy, 1, seed=4)[0].astype(np.float32)
    outputs = np.repeat(row, 20_000, 0)
    choice = policy.sample(outputs, np.random.default_rng(1))
    plain = (
        gaussian(name.replace("by state, squashed", "by state").replace("squashed", "free"))
        if name in CONTINUOUS
        else policy
    )
    surprise = -plain.evaluate(outputs, choice).log_prob
    error = surprise.std() / math.sqrt(len(surprise))
    assert policy.evaluate(row, choice[:1]).entropy[0] == pytest.approx(surprise.mean(), abs=float(4 * error))


def test_the_approximate_divergence_is_0_from_itself_never_negative_and_the_divergence_in_the_mean():
    """KL(p|q) = sum p log(p/q); averaged over p, rho - 1 - log rho is 1 - 1 + KL(p|q), with rho = q/p."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), 10_000), rng.dirichlet(np.ones(4), 10_000)
    log_ratio = np.log(q) - np.log(p)
    assert _approximate_kl(np.zeros(5)) == 0
    assert min(_approximate_kl(ratio[None]) for ratio in log_ratio[:, 0]) >= 0
    for k in range(20):
        estimate = sum(p[k, a] * _approximate_kl(log_ratio[k, a : a + 1]) for a in range(4))
        assert estimate == pytest.approx(stats.entropy(p[k], q[k]), rel=1e-9)


@pytest.mark.parametrize("policy", families(), ids=NAMES)
def test_the_mode_is_the_most_probable_choice_and_memory_of_its_own(policy):
    outputs, _, _ = drawn(policy, 30)
    mode = policy.mode(outputs)
    assert np.array_equal(mode, policy.mode(outputs))
    assert not np.shares_memory(mode, outputs)
    squashed = getattr(policy, "_squash", False)
    best = policy.evaluate(outputs, mode).log_prob
    for seed in range(0 if squashed else 20):  # squashed, the mode is the median
        assert (policy.evaluate(outputs, drawn(policy, 30, seed)[1]).log_prob <= best + 1e-12).all()
    if policy.choice_dtype is np.float32:
        assert np.array_equal(mode, outputs[:, :2])


@pytest.mark.parametrize(
    ("space", "squash", "problem"),
    [
        (Box(-np.inf, np.inf, (2,), np.float32), True, "bounded"),
        (Box(0, np.inf, (2,), np.float32), True, "bounded"),
        (Box(np.zeros(2, np.float32), np.array([1, 0], np.float32)), True, "low below high"),  # log 0 beyond
        (Discrete(2), True, "leave it out"),
        (MultiBinary(2), True, "leave it out"),
        (Box(0, 255, (2,), np.uint8), False, "no policy"),
        (gym.spaces.Tuple([Discrete(2)]), False, "no policy"),
    ],
    ids=str,
)
def test_what_has_no_distribution_is_refused_in_words(space, squash, problem):
    assert problem in action_problem(space, squash=squash)

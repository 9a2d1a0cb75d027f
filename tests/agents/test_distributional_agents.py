"""C51, QR-DQN, IQN and Rainbow: what they learn of returns, with every part of DQN, and what they refuse.

That they learn what is right, on twenty seeds, is in test_probes.py.
"""

import numpy as np
import pytest
import torch
from scipy import special
from test_contracts import canonical
from test_dqn import SPEC, play

from rltrain.callbacks import number
from rltrain.config.load import from_dict
from rltrain.core import ConfigError, Transition
from rltrain.experiment import build
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.fitting import fitting_explorations, problems
from rltrain.nn.arrays import to_numpy
from rltrain.nn.modules import module_network
from rltrain.registry import find, settings_class
from rltrain.schedules import Constant

AGENTS = ["c51", "qr_dqn", "iqn", "rainbow"]
OBS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
HERE = np.zeros((1, 2), np.float32)
OWN = {"c51": {"n_atoms": 31}, "qr_dqn": {"n_quantiles": 16}, "iqn": {"n_policy_quantiles": 16}, "rainbow": {}}


def agent(name, seed=0, **settings):
    """A small one that explores uniformly, or by noise where it is noisy."""
    common = {"hidden_sizes": (16,), "batch_size": 16, "buffer_size": 500, "learning_starts": 0, "train_freq": 1}
    common |= {"target_update_interval": 5, "learning_rate": Constant(value=5e-3)}
    config = settings_class("agents", name)(name=name, **{**common, **OWN[name], **settings})
    selector = None if config.noisy else EpsilonGreedy(EpsilonGreedy.Config(epsilon=1.0))
    return find("agents", name)(config, SPEC, exploration=selector, rng=np.random.default_rng(seed), device="cpu")


def better(obs, action):
    return float(action == 1)


def coin(seed=0):
    rng = np.random.default_rng(seed)
    return lambda obs, action: 2.0 * rng.integers(2) + 1


def test_c51_learns_the_probabilities_of_a_coin():
    """1 or 3, with 21 atoms from 0 to 4: atoms 5 and 15 have half each."""
    made = agent("c51", gamma=0.0, v_min=0.0, v_max=4.0, n_atoms=21, batch_size=128, learning_rate=1e-2)
    play(made, 400, reward=coin())
    probability = made._distribution(made.q.infer(HERE))[0, 0]  # (A, Z)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(probability[:, [5, 15]], 0.5, atol=0.15)  # of 200 throws each, the later weigh more
    assert probability[:, [5, 15]].sum(1).min() > 0.95
    np.testing.assert_allclose(made.values(HERE)[0], probability @ np.linspace(0, 4, 21), rtol=1e-4)


@pytest.mark.parametrize(("v_max", "mass"), [(4.0, 0.0), (2.5, 1.0)])
def test_c51_tells_how_much_of_its_targets_lies_at_the_ends_of_its_support(v_max, mass):
    """Returns of 3, of which 2.5 is the end."""
    made = agent("c51", gamma=0.0, v_min=0.0, v_max=v_max, n_atoms=21)
    play(made, 40, reward=lambda obs, action: 3.0)
    told = made._gradient_steps(1)["train/mass_at_the_ends"]()
    np.testing.assert_allclose(told, mass, atol=1e-6)


@pytest.mark.parametrize("name", ["qr_dqn", "iqn"])
def test_quantiles_of_a_coin_lie_at_its_sides(name):
    """Up to the width of the Huber function: 3 is farther away than 1 for a theta below 2, and 1 for one above.

    So tau * 1 = (1 - tau) (theta - 1) below, and tau (3 - theta) = (1 - tau) * 1 above.
    """
    made = agent(name, gamma=0.0, n_quantiles=8, batch_size=128, learning_rate=5e-3)
    play(made, 500 if name == "qr_dqn" else 300, reward=coin())
    if name == "qr_dqn":
        theta, tau = made.q.infer(HERE)[0, 0].mean(0), (np.arange(8) + 0.5) / 8
        np.testing.assert_allclose(made.values(OBS), made.q.infer(OBS)[:, 0].mean(-1), rtol=1e-5)
    else:
        tau = np.linspace(0.1, 0.9, 9)
        theta = made.q.infer(np.concatenate((HERE, tau[None].astype(np.float32)), 1))[0, 0].mean(0)
    expected = np.where(tau < 0.5, 1 + tau / (1 - tau), 3 - (1 - tau) / tau)
    inner = abs(tau - 0.5) > 0.1  # about the middle the data's share of heads decides
    np.testing.assert_allclose(theta[inner], expected[inner], atol=0.35)
    assert (np.diff(theta) > -0.1).all()


PARTS = {
    "double": True,
    "dueling": True,
    "n_step": 3,
    "prioritized": {},
    "munchausen": {"temperature": 0.3},
    "noisy": True,
    "prior_scale": 1.0,
}
PLAIN = {"double": False, "dueling": False, "n_step": 1, "prioritized": None, "noisy": False}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("seed", range(4))
def test_parts_go_together_in_any_combination_and_a_restored_agent_goes_on_exactly(name, seed):
    """A different half of the parts for every seed, then the other half of them."""
    order = np.random.default_rng(seed // 2).permutation(len(PARTS))
    chosen = {list(PARTS)[index] for index in order[seed % 2 :: 2]}
    parts = {**PLAIN, **{key: value for key, value in PARTS.items() if key in chosen}}
    first, second = agent(name, **parts), agent(name, **parts)
    play(first, 25, reward=better)
    before = canonical(first.state_dict())
    assert np.isfinite(first.values(OBS)).all()
    assert np.array_equal(first.act(OBS, explore=False), first.values(OBS).argmax(1))
    assert canonical(first.state_dict()) == before
    play(second, 32)
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        play(made, 15, reward=better)
    assert canonical(first.state_dict()) == canonical(second.state_dict()) != before


@pytest.mark.parametrize("name", ["c51", "qr_dqn"])
def test_fused_and_torch_networks_learn_the_same(name, monkeypatch):
    parts = {"double": True, "dueling": True, "n_step": 3, "munchausen": {}, "heads": 2}
    fused = play(agent(name, **parts), 40)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(agent(name, **parts), 40)
    np.testing.assert_allclose(fused.values(OBS), module.values(OBS), atol=1e-4)


@pytest.mark.parametrize("name", ["c51", "qr_dqn", "iqn"])
def test_dueling_rows_have_the_states_numbers_as_their_mean_and_gradients_to_match(name):
    made = agent(name, dueling=True)
    seen = made._seen(OBS if name != "iqn" else torch.from_numpy(OBS))
    outputs = made.q.network.evaluate(seen[0])
    rows, alone = made.q.values(seen[0]), outputs.reshape(len(OBS), 3, -1)
    np.testing.assert_allclose(to_numpy(rows).mean(1), to_numpy(alone)[:, 0], atol=1e-5)
    np.testing.assert_allclose(
        to_numpy(rows)[:, 0] - to_numpy(rows)[:, 1], to_numpy(alone)[:, 1] - to_numpy(alone)[:, 2], atol=1e-5
    )
    wanted = np.random.default_rng(1).normal(size=tuple(rows.shape)).astype(np.float32)
    made.q._gradient = lambda rows: (torch.from_numpy(wanted) if name == "iqn" else wanted, None)
    at_outputs = to_numpy(made.q._at_outputs(outputs, None)[0]).reshape(len(OBS), 3, -1)
    np.testing.assert_allclose(at_outputs[:, 0], wanted.sum(1), atol=1e-5)  # V is in every action
    np.testing.assert_allclose(at_outputs[:, 1:], wanted - wanted.mean(1, keepdims=True), atol=1e-5)


# --- what is c51's and iqn's own


def test_priorities_of_c51_are_divergences():
    """KL(m, p) = sum_z m_z log(m_z / p_z) for the distribution m of the target and that of the action taken."""
    made, learnt, updated = agent("rainbow"), [], []
    learn = made.q.learn
    made.q.learn = lambda obs, *args: learnt.append((made.q.values(obs).astype(float), *args)) or learn(obs, *args)
    made.replay.update_priorities = lambda indices, error: updated.append(error)
    play(made, 5)
    logits, action, target, _ = learnt[-1]
    p = special.softmax(logits[np.arange(16), action], -1)
    np.testing.assert_allclose(updated[-1], special.rel_entr(target, p).sum(1), rtol=1e-3, atol=1e-5)
    assert np.ptp(updated[-1]) > 0.01


def test_iqn_draws_a_fraction_from_each_part_and_acts_over_the_middles():
    made = agent("iqn", n_quantiles=4, n_target_quantiles=5, n_policy_quantiles=2)
    seen, fractions = made._seen(torch.from_numpy(OBS))
    assert seen.shape == (20, 6)
    drawn = fractions.numpy()
    assert (np.floor(drawn * 4) == np.arange(4)).all()
    assert len(np.unique(drawn)) == 80
    assert made._returns(made.target, torch.from_numpy(OBS)).shape == (20, 2, 5)
    middles = np.tile(np.array([0.25, 0.75], np.float32), (20, 1))
    np.testing.assert_allclose(made.values(OBS), made.q.infer(np.concatenate((OBS, middles), 1)).mean(-1)[:, 0])


def gamble(sure):
    """A network whose first action surely pays `sure`, and whose second pays 1 in three of ten cases."""

    def values(x):
        fractions = x[:, 2:]
        return torch.stack((torch.full_like(fractions, sure), 1.0 * (fractions > 0.7)), 1)

    return values


@pytest.mark.parametrize(
    ("sure", "online", "settings", "targets"),
    # Of ten middles three are above 0.7, so the means are `sure` and 0.3 whatever is drawn for the value.
    # Munchausen, t = 1, alpha = 1/2, of action 0: p = 1 / (1 + e^-0.2) = 0.549834, -log p = 0.598139, and the entropy of
    # p is 0.688172: y = -0.299070 + 0.5 p + (1 - p) {0 or 1} + 0.688172 = 0.664020 or 1.114186.
    [
        (0.5, None, {}, {0.5}),
        (0.2, None, {}, {0, 1}),
        (0.5, 0.2, {"double": True}, {0, 1}),
        (0.2, 0.5, {"double": True}, {0.2}),
        (0.5, None, {"munchausen": {"alpha": 0.5, "temperature": 1.0, "floor": -9.0}}, {0.66402, 1.114186}),
    ],
)
def test_iqn_does_not_choose_by_the_draws_that_value_the_choice(sure, online, settings, targets, monkeypatch):
    made, seen = agent("iqn", n_target_quantiles=1, n_policy_quantiles=10, gamma=1.0, **settings), set()
    no, obs = np.array([False]), np.ones((1, 2), np.float32)
    made.observe(Transition(obs, np.array([0]), np.zeros(1, np.float32), obs, no, no))
    monkeypatch.setattr(made.target, "values", gamble(sure))
    monkeypatch.setattr(made.q, "values", gamble(online))
    learn = made.q.learn
    monkeypatch.setattr(made.q, "learn", lambda *args: seen.update(args[2].ravel().tolist()) or learn(*args))
    made._gradient_steps(2)
    np.testing.assert_allclose(sorted({round(y, 5) for y in seen}), sorted(targets), atol=1e-5)


@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_iqns_network_is_f_of_psi_times_phi(hidden):
    made = agent("iqn", hidden_sizes=hidden)
    parts = dict(made.q.network._module.heads[0].named_parameters())
    tau, x = torch.tensor([[0.3]]), torch.from_numpy(OBS[:1])
    h = torch.relu(x @ parts["psi.0.weight"] + parts["psi.0.bias"])
    cosines = torch.cos(torch.pi * torch.arange(64) * tau)
    h = h * torch.relu(cosines @ parts["phi.0.weight"] + parts["phi.0.bias"])
    if len(hidden) == 2:
        h = torch.relu(h @ parts["f.0.weight"] + parts["f.0.bias"])
        h = h @ parts["f.2.weight"] + parts["f.2.bias"]
    else:
        h = h @ parts["f.0.weight"] + parts["f.0.bias"]
    mine = made.q.values(torch.cat((x, tau), 1))
    np.testing.assert_allclose(mine[0, :, 0], h.detach()[0], rtol=1e-4, atol=1e-6)


def test_iqns_heads_are_networks_of_their_own_at_the_same_fractions():
    """What a loss gets are the heads of an observation one after the other, at the fractions of each."""
    made = agent("iqn", heads=2, n_quantiles=4)
    seen, fractions = made._seen(torch.from_numpy(OBS))
    assert fractions.shape == (40, 4)
    rows = made.q.values(seen).numpy().copy()  # (R, A, T)
    for head, network in enumerate(made.q.network._module.heads):
        own = network(torch.from_numpy(OBS), fractions[head::2]).detach().numpy()
        np.testing.assert_allclose(rows[head::2], own.reshape(20, 2, 4), rtol=1e-5, atol=1e-6)
    assert np.abs(rows[0::2] - rows[1::2]).min(axis=(1, 2)).max() > 1e-3
    assert torch.equal(fractions[0::2], seen[:, 2:])


def test_rainbows_defaults_are_the_papers():
    config = settings_class("agents", "rainbow")(name="rainbow")
    assert config.explores_with is None
    told = config.model_dump()
    expected = {"n_step": 3, "double": True, "dueling": True, "noisy": True, "noisy_std": 0.5, "adam_eps": 1.5e-4}
    expected |= {"n_atoms": 51, "v_min": -10, "v_max": 10, "learning_starts": 20_000, "target_update_interval": 8_000}
    assert {key: told[key] for key in expected} == expected
    assert (told["prioritized"]["alpha"], told["learning_rate"]["value"]) == (0.5, 6.25e-5)


def run(name, exploration="epsilon_greedy", **settings):
    short = {"learning_starts": 10, "target_update_interval": 100}
    data = {"env": {"id": "CartPole-v1"}, "agent": {"name": name, **short, **settings}}
    data |= {"train": {"total_steps": 1_000}, "device": "cpu"}
    return from_dict(data | ({} if exploration is None else {"exploration": {"name": exploration}})).config


@pytest.mark.parametrize("name", ["c51", "qr_dqn", "iqn"])
def test_they_explore_as_dqn_does(name):
    plain = settings_class("agents", "dqn")(name="dqn")
    mine = settings_class("agents", name)(name=name)
    assert fitting_explorations(mine) == fitting_explorations(plain)
    small = {"batch_size": 8, "buffer_size": 100, "hidden_sizes": [8], **OWN[name]}
    for exploration, more in [("boltzmann", {}), ("ucb", {"visits": {}}), ("thompson", {"heads": 3})]:
        config = run(name, exploration, **small, **more)
        assert problems(config) == []
        metrics = build(config).loop.advance(40).metrics
        assert np.isfinite(number(metrics["train/loss"]))
        assert number(metrics["train/td_error"]) >= 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("iqn", {"hidden_sizes": []}, "iqn needs a hidden layer"),
        ("c51", {"loss": "mse"}, "the loss of a distribution is its own"),
        ("c51", {"v_min": 3, "v_max": 3}, "v_min 3 must be below v_max 3"),
        ("c51", {"v_min": -1e308, "v_max": 1e308}, "too far apart for float32 numbers"),
        ("rainbow", {"v_min": 0, "v_max": 4e38}, "too far apart for float32 numbers"),
        ("rainbow", {"adam_eps": 0}, "adam_eps"),
        ("rainbow", {"buffer_size": 0}, "buffer_size"),
    ],
)
def test_what_does_not_fit_is_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(name, **settings)


@pytest.mark.parametrize(
    ("name", "exploration", "message"),
    [
        ("c51", "thompson", "agent.heads=10"),
        ("rainbow", "epsilon_greedy", "rainbow explores by its noisy weights: leave this block out"),
    ],
)
def test_an_exploration_that_does_not_fit_is_refused_with_what_would(name, exploration, message):
    (problem,) = problems(run(name, exploration))
    assert message in problem.message

"""Which environments are known exactly, and that the model says what the environment does."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.utils import categorical_sample
from gymnasium.wrappers import TransformReward

from rltrain.config.schema import EnvSettings
from rltrain.envs.blackjack import SHAPE, blackjack_model
from rltrain.envs.model import _from_table, read_model
from rltrain.envs.own import register
from rltrain.mdp import one_hot, policy_value, reachable, value_iteration
from rltrain.registry import settings_class

FAIR = [[[(0.5, 0, 0.0, False), (0.5, 1, 1.0, True)]] * 3, [[(1.0, 0, 0.0, True)]] * 3]


class Table(gym.Env):
    """An environment that offers whatever it is given as its table."""

    closed = 0

    def __init__(self, table=FAIR, start=(1.0, 0.0), first=0, states=2):
        self.P = table
        self.initial_state_distrib = np.array(start)
        self.observation_space = gym.spaces.Discrete(states, start=first)
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(categorical_sample(self.initial_state_distrib, self.np_random))
        return self.s, {}

    def step(self, action):
        outcomes = self.P[self.s][action]
        _, self.s, reward, over = outcomes[categorical_sample([outcome[0] for outcome in outcomes], self.np_random)]
        return self.s, reward, over, False, {}

    def close(self):
        type(self).closed += 1


class NoStart(Table):
    def __init__(self):
        super().__init__()
        del self.initial_state_distrib


class Raising(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(2)

    @property
    def P(self):  # noqa: N802
        raise RuntimeError("not that kind of P")


class Changed(FrozenLakeEnv):
    """A lake whose steps, or beginnings, are not those of its table."""

    def __init__(self, change, **kwargs):
        self.change = change
        super().__init__(**kwargs)

    def reset(self, **kwargs):
        state, info = super().reset(**kwargs)
        return state + (self.change == "start"), info

    def step(self, action):
        state, reward, over, cut, info = super().step(action)
        match self.change:
            case "reward":
                reward -= 0.01
            case "state":
                state = self.s = (state + 5) % 16
            case "end":
                over = False
            case "limit":
                cut = True
            case "float32":
                reward = np.float32(0.1) if reward else 0.0
        return state, reward, over, cut, info


class OtherBlackjack(BlackjackEnv):
    """Rules that the exact model does not know."""


@pytest.fixture(autouse=True)
def registered():
    register()
    extra = (TransformReward.wrapper_spec(func=lambda reward: 2 * reward),)
    gym.register("Table-v0", Table)
    gym.register("DoubledTable-v0", Table, additional_wrappers=extra)
    gym.register("NoStart-v0", NoStart)
    gym.register("Raising-v0", Raising)
    gym.register("OtherBlackjack-v0", OtherBlackjack)
    gym.register("Changed-v0", Changed)
    yield
    for name in ("Table-v0", "DoubledTable-v0", "NoStart-v0", "Raising-v0", "OtherBlackjack-v0", "Changed-v0"):
        del gym.registry[name]


def settings(id, *wrappers, **kwargs):
    made = tuple(settings_class("wrappers", name)(name=name, **options) for name, options in wrappers)
    return EnvSettings(id=id, kwargs=kwargs, wrappers=made)


DISCRETIZE = ("discretize", {})


@pytest.mark.parametrize(
    "id",
    [
        "FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Table-v0",
        "rltrain/DeepSea-v0", "rltrain/SparseGrid-v0", "rltrain/RiverSwim-v0", "rltrain/NChain-v0",
    ],
)  # fmt: skip
def test_a_model_has_the_outcomes_of_the_table_in_their_order(id):
    env = gym.make(id).unwrapped
    model = read_model(settings(id))
    assert (model.states, model.actions) == (env.observation_space.n, env.action_space.n)
    assert np.array_equal(model.start, env.initial_state_distrib)
    for s, a in np.ndindex(model.states, model.actions):
        count = model.outcomes[s, a]
        fields = (model.probability, model.next_state, model.reward, model.terminated)
        assert list(zip(*(field[s, a, :count] for field in fields), strict=True)) == list(map(tuple, env.P[s][a]))
        assert not model.probability[s, a, count:].any()


def test_keyword_arguments_reach_the_environment():
    assert read_model(settings("FrozenLake-v1", is_slippery=False)).outcomes.max() == 1
    assert read_model(settings("Taxi-v4", is_rainy=True)).outcomes.max() == 3


@pytest.mark.parametrize(
    "made",
    [
        settings("CartPole-v1"),
        settings("FrozenLake-v1", ("scale_reward", {"scale": 2.0})),
        settings("FrozenLake-v1", DISCRETIZE),
        settings("Taxi-v4", fickle_passenger=True),
        settings("Blackjack-v1", sab=False),
        settings("Blackjack-v1", DISCRETIZE),  # registered with sab=True
        settings("Blackjack-v1", DISCRETIZE, natural=True, sab=False),
        settings("Blackjack-v1", DISCRETIZE, ("scale_reward", {"scale": 2.0}), sab=False),
        settings("Blackjack-v1", ("scale_reward", {"scale": 2.0}), sab=False),
        settings("OtherBlackjack-v0", DISCRETIZE),
        settings("DoubledTable-v0"),
        settings("NoStart-v0"),
        settings("Raising-v0"),
        settings("Table-v0", first=1),
        settings("Table-v0", states=3),
        settings("Table-v0", table=[row[:2] for row in FAIR]),  # two actions where the space has three
        settings("Table-v0", table=[[[(0.9, 0, 0.0, True)]] * 3] * 2),
        settings("Table-v0", table=0.5),
        settings("Table-v0", table=[[["x"]] * 3] * 2),
        settings("Table-v0", start=(1.0, 1.0)),
    ],
    ids=str,
)
def test_what_is_not_known_exactly_has_no_model(made):
    assert read_model(made) is None


@pytest.mark.parametrize("change", ["reward", "state", "end", "limit", "start"])
def test_a_table_that_the_steps_do_not_follow_is_not_believed(change):
    """A subclass keeps the table that it has inherited, whatever it does."""
    assert read_model(settings("Changed-v0", change="nothing")) is not None
    assert read_model(settings("Changed-v0", change=change)) is None


def test_a_reward_may_be_rounded():
    """0.1 as a float32 is 0.1 and a few hundred millionths of it."""
    lake = gym.make("FrozenLake-v1", desc=["SG"], is_slippery=False).unwrapped
    table = {s: {a: [(p, t, 0.1 * r, o) for p, t, r, o in lake.P[s][a]] for a in range(4)} for s in range(2)}
    env = Changed("float32", desc=["SG"], is_slippery=False)
    env.P = table
    assert _from_table(env) is not None


def test_the_environment_is_closed_whether_known_or_not():
    for made in (settings("Table-v0"), settings("Table-v0", table=0.5), settings("DoubledTable-v0")):
        before = Table.closed
        read_model(made)
        assert Table.closed == before + 1


# Blackjack

MODEL = blackjack_model()


class Stacked:
    """A generator that deals the given cards and says when there are none left."""

    def __init__(self, cards):
        self.cards = list(cards)

    def choice(self, _deck):
        if not self.cards:
            raise IndexError
        return self.cards.pop(0)


def hand_of(total, ace):
    """Cards with this sum, with an ace that counts 11 or without any."""
    if ace:
        return [1] if total == 11 else [1, *hand_of(total - 11, False)]
    return [total] if total <= 10 else [10, *hand_of(total - 10, False)]


def play(player, dealer, action, cards):
    env = BlackjackEnv()
    env.player, env.dealer, env._np_random = list(player), list(dealer), Stacked(cards)
    obs, reward, terminated, _, _ = env.step(action)
    return np.ravel_multi_index(obs, SHAPE), reward, terminated


def chance(card):
    return (4 if card == 10 else 1) / 13


def possible():
    return [(total, ace) for ace in (0, 1) for total in range(12 if ace else 4, 22)]


def test_a_hit_leads_where_the_environment_leads():
    for total, ace in possible():
        for dealer in range(1, 11):
            state = np.ravel_multi_index((total, dealer, ace), SHAPE)
            assert MODEL.outcomes[state, 1] == 10
            for card in range(1, 11):
                k = card - 1
                told = (MODEL.next_state[state, 1, k], MODEL.reward[state, 1, k], MODEL.terminated[state, 1, k])
                assert told == play(hand_of(total, ace), [dealer, 10], 1, [card])
                assert MODEL.probability[state, 1, k] == pytest.approx(chance(card))


def dealer_paths(player, dealer, cards=()):
    """Every deal of the dealer's cards, played by the environment: (probability, reward)."""
    try:
        _, reward, _ = play(player, [dealer, cards[0]], 0, cards[1:]) if cards else (0, 0, [].pop())
    except IndexError:
        for card in range(1, 11):
            yield from dealer_paths(player, dealer, (*cards, card))
    else:
        yield float(np.prod([chance(card) for card in cards])), reward


@pytest.mark.parametrize(("total", "ace", "dealer"), [(13, 0, 6), (17, 0, 10), (19, 1, 9), (20, 0, 7), (21, 1, 10)])
def test_sticking_pays_what_the_environment_pays(total, ace, dealer):
    paid = {1.0: 0.0, 0.0: 0.0, -1.0: 0.0}
    for probability, reward in dealer_paths(hand_of(total, ace), dealer):
        paid[reward] += probability
    assert sum(paid.values()) == pytest.approx(1)
    state = np.ravel_multi_index((total, dealer, ace), SHAPE)
    real = slice(MODEL.outcomes[state, 0])
    told = dict(zip(MODEL.reward[state, 0, real], MODEL.probability[state, 0, real], strict=True))
    assert told == pytest.approx(paid, abs=1e-12)
    assert MODEL.terminated[state, 0, : MODEL.outcomes[state, 0]].all()


def test_the_deal_is_that_of_two_cards_and_one():
    assert MODEL.start.sum() == pytest.approx(1)
    at = MODEL.start.reshape(SHAPE)
    assert at[21, :, 1].sum() == pytest.approx(2 * 4 / 169)  # a natural: ace and ten
    assert at[12, 3, 1] == pytest.approx(1 / 13**3)  # two aces, the dealer shows 3
    assert at[4, :, 0].sum() == pytest.approx(1 / 169)  # two and two
    assert at[21, :, 0].sum() == at[:, 0].sum() == at[:4].sum() == at[22:].sum() == 0
    assert at[:, 10].sum() == pytest.approx(4 / 13)


def test_a_hand_can_be_seen_exactly_if_cards_can_make_it():
    seen = {tuple(map(int, np.unravel_index(s, SHAPE))) for s in np.flatnonzero(reachable(MODEL))}
    assert seen == {(total, dealer, ace) for total, ace in possible() for dealer in range(1, 11)}


def test_the_model_of_blackjack_is_read_where_the_observation_suffices():
    model = read_model(settings("Blackjack-v1", DISCRETIZE, sab=False))
    assert np.array_equal(model.probability, MODEL.probability)


def test_blackjack_has_its_known_optimum_and_so_has_sticking_on_20():
    q, _ = value_iteration(MODEL, 1.0)
    assert MODEL.start @ q.max(1) == pytest.approx(-0.046556, abs=5e-7)
    hit_below_20 = np.arange(MODEL.states) // (SHAPE[1] * SHAPE[2]) < 20
    value = MODEL.start @ policy_value(MODEL, one_hot(hit_below_20.astype(int), 2), 1.0)
    assert value == pytest.approx(-0.353554, abs=5e-7)

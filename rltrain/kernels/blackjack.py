"""Blackjack in the compiled loop: hands and cards, drawn as Gymnasium draws them, instead of a table of outcomes.

How often the generator is asked depends on the cards, so where the open episode began cannot be counted
back. A second generator stays there: when an episode is over, it plays it again and stands at the next one's start.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rltrain.compilable import compilable, making_arrays
from rltrain.config.schema import EnvSettings
from rltrain.core import Array, State
from rltrain.envs.blackjack import DEALER_STANDS, LIMIT, SHAPE
from rltrain.kernels.world import behaves

PLAYER, DEALER = 0, 1
RANKS, SUITS, FACES = 13, 4, 3


class Hands(NamedTuple):
    """What matters of the cards on a table."""

    hard: Array  # (2,) int64: sum of the player's and the dealer's cards, aces as 1
    aces: Array  # (2,) int64
    open_card: Array  # (1,) int64: the dealer's, an ace is 1


class Tables(NamedTuple):
    """The table that is played at, and the one on which the second generator repeats finished episodes."""

    now: Hands
    behind: Hands
    limit: int  # steps of an episode; -1 for no limit


@compilable
def draw_card(hands: Any, who: int, rng: Any) -> int:
    """One of thirteen ranks; tens, jacks, queens and kings count 10."""
    card = int(min(rng.integers(0, RANKS) + 1, 10))
    hands.hard[who] += card
    hands.aces[who] += card == 1
    return card


@compilable
def total(hands: Any, who: int) -> int:
    """The sum, with one ace as 11 where that is not too much."""
    hard = hands.hard[who]
    return int(hard + 10) if hands.aces[who] > 0 and hard + 10 <= LIMIT else int(hard)


@compilable
def observation(hands: Any) -> int:
    """Row-major number of the player's sum, the dealer's open card, and whether an ace counts 11."""
    mine = total(hands, PLAYER)
    return int((mine * SHAPE[1] + hands.open_card[0]) * SHAPE[2] + (mine != hands.hard[PLAYER]))


@compilable
def deal(hands: Any, rng: Any) -> int:
    """Two cards each. Gymnasium also draws a suit, and a face for a ten, for its picture."""
    hands.hard[:] = 0
    hands.aces[:] = 0
    hands.open_card[0] = draw_card(hands, DEALER, rng)
    draw_card(hands, DEALER, rng)
    draw_card(hands, PLAYER, rng)
    draw_card(hands, PLAYER, rng)
    rng.integers(0, SUITS)
    if hands.open_card[0] == 10:
        rng.integers(0, FACES)
    return observation(hands)


@compilable
def play(hands: Any, action: int, rng: Any) -> tuple[float, bool]:
    """Hit (1) or stick (0): what it pays, and whether the episode is over."""
    if action == 1:
        draw_card(hands, PLAYER, rng)
        over = hands.hard[PLAYER] > LIMIT
        paid = -1.0 if over else 0.0
    else:
        while total(hands, DEALER) < DEALER_STANDS:
            draw_card(hands, DEALER, rng)
        mine, its = total(hands, PLAYER), total(hands, DEALER)
        over = True
        paid = 1.0 if its > LIMIT or mine > its else (-1.0 if mine < its else 0.0)
    return paid, bool(over)


@making_arrays
def take(world: Any, obs: int, action: int, rng: Any) -> tuple[int, float, bool]:
    """Take an action: what is seen then, what it pays, and whether the task is over."""
    paid, over = play(world.now, action, rng)
    return observation(world.now), paid, over


@making_arrays
def begin(world: Any, actions: Any, elapsed: int, rng: Any, start_rng: Any) -> int:
    """Let the second generator repeat the episode that is over, and deal anew."""
    deal(world.behind, start_rng)
    for index in range(elapsed):
        play(world.behind, actions[index], start_rng)
    return deal(world.now, rng)


def _hands() -> Hands:
    return Hands(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(1, np.int64))


class BlackjackBoard:
    """Gymnasium's Blackjack, `sab` and `natural` false, in the hands of a compiled loop."""

    take, begin = staticmethod(take), staticmethod(begin)

    def __init__(self, bare: Any, limit: int | None) -> None:
        self._bare = bare
        self.arrays = Tables(_hands(), _hands(), -1 if limit is None else limit)
        self.start_rng = np.random.Generator(np.random.PCG64())

    def read(self, origin: State) -> int:
        """Take over the cards on the table. `origin` is how the open episode began. Returns the state."""
        hands = self.arrays.now
        for who, cards in ((PLAYER, self._bare.player), (DEALER, self._bare.dealer)):
            hands.hard[who], hands.aces[who] = sum(cards), cards.count(1)
        hands.open_card[0] = self._bare.dealer[0]
        if "seed" in origin:  # as Gymnasium seeds
            self.start_rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(origin["seed"])))
        else:
            self.start_rng.bit_generator.state = origin["rng"]
        return observation(hands)

    def write_back(self, state: int) -> None:
        """Nothing: an episode that is restored is played again from its beginning."""

    def origin(self, length: int) -> State:
        """The generator's state before the open episode."""
        return {"rng": self.start_rng.bit_generator.state}


def blackjack_is_true(settings: EnvSettings) -> bool:
    """Whether Gymnasium's Blackjack deals and pays as this one does."""

    def number(seen: tuple[int, int, int]) -> int:
        return (int(seen[0]) * SHAPE[1] + int(seen[1])) * SHAPE[2] + int(seen[2])

    return behaves(settings, Tables(_hands(), _hands(), -1), take, begin, 2, number)

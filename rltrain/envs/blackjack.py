"""Gymnasium's Blackjack as an exact model: every hand that can be seen, and how each ends.

Source: Sutton and Barto 2018, example 5.1, with the rules of `BlackjackEnv(natural=False, sab=False)`: an infinite
deck, a dealer who draws to 17 and stands on every 17, and a natural that is an ordinary 21.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import NamedTuple

import numpy as np

from rltrain.mdp import Model

SHAPE = (32, 11, 2)
"""The observation: the player's sum, the dealer's open card, whether an ace counts 11."""
DECK = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
"""Probability of each card; tens, jacks, queens and kings all count 10, an ace is 1."""
DEALER_STANDS = 17
LIMIT = 21


class _Hand(NamedTuple):
    """What matters of some cards: an ace that cannot count 11 now never can again, for sums only grow."""

    sum: int = 0
    ace: bool = False

    def draw(self, card: int) -> _Hand:
        hard = self.sum - 10 * self.ace + card
        soft = (self.ace or card == 1) and hard + 10 <= LIMIT
        return _Hand(hard + 10 * soft, soft)


@cache
def _dealer(hand: _Hand) -> dict[int, float]:
    """Probability of each score in which the dealer's play ends; 0 is a bust."""
    if hand.sum >= DEALER_STANDS:
        return {hand.sum if hand.sum <= LIMIT else 0: 1.0}
    scores: dict[int, float] = defaultdict(float)
    for card, probability in DECK.items():
        for score, chance in _dealer(hand.draw(card)).items():
            scores[score] += probability * chance
    return dict(scores)


def _index(player: _Hand, dealer: int) -> int:
    """Row-major place of an observation in `SHAPE`."""
    return (player.sum * SHAPE[1] + dealer) * SHAPE[2] + player.ace


def _stick(player: _Hand, dealer: int) -> list[tuple[float, int, float, bool]]:
    scores = _dealer(_Hand().draw(dealer))
    chance = {
        1.0: sum(p for score, p in scores.items() if score < player.sum),
        0.0: scores.get(player.sum, 0.0),
        -1.0: sum(p for score, p in scores.items() if score > player.sum),
    }
    return [(probability, _index(player, dealer), reward, True) for reward, probability in chance.items()]


def _hit(player: _Hand, dealer: int) -> list[tuple[float, int, float, bool]]:
    outcomes = []
    for card, probability in DECK.items():
        hand = player.draw(card)
        bust = hand.sum > LIMIT
        outcomes.append((probability, _index(hand, dealer), -1.0 if bust else 0.0, bust))
    return outcomes


def blackjack_model() -> Model:
    """Every observation of Blackjack, as its row-major index, with actions 0 stick and 1 hit.

    Observations that no cards can show, such as a sum of 3, end at once without a reward.
    """
    states = int(np.prod(SHAPE))
    table: list[list[list[tuple[float, int, float, bool]]]] = [[[(1.0, s, 0.0, True)]] * 2 for s in range(states)]
    start = np.zeros(states)
    hands = [_Hand(total) for total in range(4, LIMIT + 1)] + [_Hand(total, True) for total in range(12, LIMIT + 1)]
    for dealer, open_card in DECK.items():
        for hand in hands:
            table[_index(hand, dealer)] = [_stick(hand, dealer), _hit(hand, dealer)]
        for first, one in DECK.items():
            for second, other in DECK.items():
                start[_index(_Hand().draw(first).draw(second), dealer)] += open_card * one * other
    return Model.from_table(table, start)

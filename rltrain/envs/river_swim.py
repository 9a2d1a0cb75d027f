"""RiverSwim: a small reward that is easy to have downstream, a great one against the current."""

from __future__ import annotations

from rltrain.envs.finite import FiniteEnv, Outcomes, start_at


class RiverSwim(FiniteEnv):
    """A row of `length` places; action 0 drifts to the left, action 1 swims to the right.

    Drifting always succeeds, and pays 0.005 at the left end. Swimming moves on with probability 0.35, stays with 0.6
    and is carried back with 0.05; at the left end it moves with 0.6 and stays with 0.4; at the right end it pays 1,
    stays with 0.6 and is carried back with 0.4. Episodes begin at the left end and only the step limit ends them.

    Source: Strehl and Littman 2008, https://doi.org/10.1016/j.jcss.2007.08.009; with the numbers of Osband, Russo and
    Van Roy 2013, https://arxiv.org/abs/1306.0940, figure 1.
    """

    def __init__(self, length: int = 6, render_mode: str | None = None) -> None:
        if length < 3:
            raise ValueError(f"length must be at least 3, not {length}")
        last = length - 1
        table: Outcomes = {}
        for place in range(length):
            drift = [(1.0, max(place - 1, 0), 0.005 if place == 0 else 0.0, False)]
            if place == 0:
                swim = [(0.4, 0, 0.0, False), (0.6, 1, 0.0, False)]
            elif place == last:
                swim = [(0.4, last - 1, 1.0, False), (0.6, last, 1.0, False)]
            else:
                swim = [(0.05, place - 1, 0.0, False), (0.6, place, 0.0, False), (0.35, place + 1, 0.0, False)]
            table[place] = {0: drift, 1: swim}
        super().__init__(table, start_at(0, length), render_mode)

    def picture(self, state: int) -> str:
        """The swimmer between the banks."""
        return "|" + "".join("o" if place == state else "~" for place in range(len(self.P))) + "|"

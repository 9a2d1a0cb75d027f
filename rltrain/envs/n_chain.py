"""NChain: going back pays a little at once, going on pays much at the end of the chain."""

from __future__ import annotations

from rltrain.envs.finite import FiniteEnv, Outcomes, start_at


class NChain(FiniteEnv):
    """A chain of `length` states; action 0 goes on, action 1 goes back to the first.

    Going on pays `large` in the last state, which it keeps, and 0 before; going back pays `small`. With probability
    `slip` the other action is taken. Only the step limit ends an episode.

    Source: Dearden, Friedman and Russell 1998, "Bayesian Q-learning", figure 1; Strens 2000.
    """

    def __init__(
        self,
        length: int = 5,
        slip: float = 0.2,
        small: float = 2.0,
        large: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        if length < 2 or not 0 <= slip < 1:
            raise ValueError(f"length must be at least 2 and slip within 0 and 1, not {length} and {slip}")
        last = length - 1
        table: Outcomes = {}
        for state in range(length):
            on = (min(state + 1, last), large if state == last else 0.0, False)
            back = (0, small, False)
            table[state] = {
                action: [(1.0 - slip, *meant), *([(slip, *other)] if slip else [])]
                for action, meant, other in ((0, on, back), (1, back, on))
            }
        super().__init__(table, start_at(0, length), render_mode)

    def picture(self, state: int) -> str:
        """The chain and where one is."""
        return "-".join("o" if place == state else "." for place in range(len(self.P)))

"""Pictures of what a tabular agent learnt: values, greedy actions and visits, laid out as the environment is.

Legend for shapes: S states, A actions, K cells of one panel, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text import BlackjackEnv, CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

from rltrain.core import Array
from rltrain.mdp import reachable
from rltrain.pictures.panels import (
    DOWN,
    INK,
    LEFT,
    PAPER,
    RIGHT,
    UP,
    Direction,
    Mark,
    MarkStyle,
    Page,
    Panel,
    draw_page,
)
from rltrain.saved import SavedPolicy
from rltrain.tabular import TabularAgent

DIRECTIONS: dict[type[gym.Env[Any, Any]], tuple[Direction, ...]] = {
    FrozenLakeEnv: (LEFT, DOWN, RIGHT, UP),
    CliffWalkingEnv: (UP, RIGHT, DOWN, LEFT),
    TaxiEnv: (DOWN, UP, RIGHT, LEFT, "P", "D"),
    BlackjackEnv: ("S", "H"),
}
"""How each action of an environment is drawn."""
ORANGE = "#f59331"
"""Face of where the agent is to go."""
START = MarkStyle(PAPER, INK, covers=False)
GOAL = MarkStyle(ORANGE, INK, covers=True)
DEADLY = MarkStyle(INK, PAPER, covers=True)
MAP_MARKS = {"S": START, "G": GOAL, "H": DEADLY, "C": DEADLY}
"""Letters of a map: start, goal, hole and cliff. What covers its cell is entered only as the episode ends."""
LANDMARK = MarkStyle(PAPER, INK, covers=False)
PASSENGER = MarkStyle(INK, PAPER, covers=False)
DESTINATION = MarkStyle(ORANGE, INK, covers=False)
LANDMARKS = "RGYB"
"""Taxi's landmarks, as it numbers them; the passenger's fifth place is the taxi."""
TAXI_SIDE = 5
"""Rows and columns of Taxi's map."""
TAXI_CELL = 0.64
"""Inches of one of its cells."""
MOVES = 4
"""Its first actions move: south, north, east, west."""
MAX_STATES = 200
"""Rows of a plain matrix; of more states, so many are chosen."""
WIDE = 1.6
"""Above this ratio of columns to rows the panels stand below each other."""
ALONE = 1.5
"""How much larger cells are where no visits stand below."""
GAP = "   \u00b7   "
"""Between the parts of the note below."""


@dataclass(frozen=True)
class Table:
    """A learnt table and the environment it belongs to."""

    q: Array  # (S, A) float64
    visits: Array | None  # (S, A) int64: how often each action was taken
    env: gym.Env[Any, Any]  # unwrapped; its map is read, nothing is stepped
    reachable: Array | None = None  # (S,) bool: an action can be taken here
    first_state: int = 0  # what the environment calls row 0
    first_action: int = 0  # and column 0

    @property
    def note(self) -> list[str]:
        """What cells without a value are."""
        if self.visits is not None:
            return ["grey: never tried"]
        return [] if self.reachable is None else ["grey: out of reach"]


class Learnt(NamedTuple):
    """What there is to draw of a table."""

    values: Array  # (S,) V = max_a Q; NaN if nothing was learnt
    glyphs: list[Direction]  # (S,) the greedy action
    q: Array  # (S, A), NaN where it was not learnt
    greedy: Array  # (S, A) bool: the greedy action, where something was learnt


def table_of(policy: SavedPolicy, env: gym.Env[Any, Any]) -> Table | None:
    """The values of every action in every state, if both are numbered; `env` is unwrapped."""
    states, actions, model = policy.spec.observation_space, policy.spec.action_space, policy.spec.model
    if not isinstance(states, gym.spaces.Discrete) or not isinstance(actions, gym.spaces.Discrete):
        return None
    first = int(states.start)
    q = policy.agent.values(np.arange(first, first + int(states.n)))
    if q is None or q.shape != (states.n, actions.n):
        return None
    return Table(
        q=np.asarray(q, np.float64),
        visits=policy.agent.memory.visits if isinstance(policy.agent, TabularAgent) else None,
        env=env,
        reachable=None if model is None else reachable(model),
        first_state=first,
        first_action=int(actions.start),
    )


def draw_table(path: Path, table: Table, *, title: str) -> None:
    """Write one PNG. Equal tables give equal bytes. Raises OSError if it cannot be written."""
    draw_page(path, layout(table), title=title)


def direction(env: gym.Env[Any, Any], action: int) -> Direction:
    """How an action is drawn: (rows down, columns right), or a letter; its number if the environment is not known."""
    for kind, known in DIRECTIONS.items():
        if isinstance(env, kind) and action < len(known):
            return known[action]
    return str(action)


def layout(table: Table) -> Page:
    """Panels that suit the environment; a matrix if the environment or the table's shape is not known."""
    shape, env = table.q.shape, table.env
    if isinstance(env, FrozenLakeEnv) and shape == (np.size(env.desc), 4):
        return _maze(table, np.asarray(env.desc).astype(str))
    if isinstance(env, CliffWalkingEnv) and shape == (np.prod(env.shape), 4):
        letters = np.full(env.shape, "F")
        letters[-1] = ["S", *"C" * (env.shape[1] - 2), "G"]
        return _maze(table, letters)
    if isinstance(env, TaxiEnv) and shape == (500, 6):
        return _taxi(table, env)
    if isinstance(env, BlackjackEnv) and shape == (704, 2):
        return _blackjack(table)
    return _matrix(table)


def learnt(table: Table, taken: Array | None = None) -> Learnt:
    """What was learnt: only of states (S,) where an action can be `taken`, and of actions that were tried.

    The greedy action is the lowest-numbered of the best, tried or not.
    """
    known: Array = np.isfinite(table.q)  # (S, A)
    q = np.where(known, table.q, -np.inf)
    if taken is not None:
        known &= taken[:, None]
    if table.reachable is not None:
        known &= table.reachable[:, None]
    if table.visits is not None:
        known &= table.visits > 0
    best: Array = q.argmax(1)  # (S,)
    somewhere = np.asarray(known.any(1))  # (S,)
    greedy = (np.arange(q.shape[1]) == best[:, None]) & somewhere[:, None]
    glyphs = [direction(table.env, int(action)) for action in best]
    return Learnt(np.where(somewhere, q.max(1), np.nan), glyphs, np.where(known, table.q, np.nan), greedy)


def _maze(table: Table, letters: Array) -> Page:
    """V, Q of each action and visits on a map of letters (rows, columns)."""
    rows, columns = letters.shape
    wide = columns > WIDE * rows
    size = min(1.3, 13.5 / columns if wide else 4.4 / max(rows, columns))  # inches of a cell
    covered = np.isin(letters, [letter for letter, style in MAP_MARKS.items() if style.covers])
    known = learnt(table, ~covered.ravel())
    marks = [Mark(x, y, str(c), MAP_MARKS[c]) for (y, x), c in np.ndenumerate(letters) if c in MAP_MARKS]
    cells = Panel("V and the greedy action", (rows, columns), (size, size), known.values, marks=marks)
    values = replace(cells, bar="V", limits=_limits(known.values), glyphs=known.glyphs)
    actions = replace(
        cells,
        title="Q of each action (red: greedy)",
        bar="Q",
        limits=_limits(known.q),
        values=known.q.ravel(),
        marked=known.greedy.ravel(),
        triangles=[direction(table.env, action) for action in range(table.q.shape[1])],
    )
    visits = [] if table.visits is None else [replace(cells, title="Visits", bar="visits", values=table.visits.sum(1))]
    end = "C cliff" if (letters == "C").any() else "H hole"
    note = GAP.join(("S start", "G goal", end, *table.note))
    if wide:
        return Page([[values, actions, *visits]], note)
    if visits:  # as high as the two others
        size = (values.height + values.down) / rows
        return Page([[values, *visits], [replace(actions, cell=(size, size))]], note)
    size *= ALONE
    return Page([[replace(panel, cell=(size, size))] for panel in (values, actions)], note)


def _taxi(table: Table, env: TaxiEnv) -> Page:
    """V on the map: one panel for each place of the passenger (columns) and destination (rows).

    Where passenger and destination are at the same place, which never happens, stands Q of the four moves with
    the passenger in the taxi. Visits are summed over destinations.
    """
    known = learnt(table)
    inside = np.asarray(env.desc).astype(str)[1:-1, 1:-1]  # of the outer walls: a cell, a colon or a wall, a cell, ...
    walls = [(x // 2, y) for y, x in np.argwhere(inside == "|")]
    size = (TAXI_SIDE, TAXI_SIDE)
    cells = Panel("", size, (TAXI_CELL, TAXI_CELL), known.values, limits=_limits(known.values), walls=walls)
    waiting, riding = range(len(LANDMARKS)), len(LANDMARKS)
    columns: list[list[Panel]] = [[] for _ in range(riding + 1)]
    for place, goal in np.ndindex(len(columns), len(LANDMARKS)):
        styles = {place: PASSENGER, goal: DESTINATION}
        marks = [Mark(x, y, LANDMARKS[n], styles.get(n, LANDMARK)) for n, (y, x) in enumerate(env.locs)]
        states = _taxi_states(riding if place == goal else place, goal)
        panel = replace(cells, values=known.values[states], glyphs=[known.glyphs[state] for state in states])
        if place == goal:
            moves = known.q[states, :MOVES], known.greedy[states, :MOVES]
            panel = replace(panel, title=f"Q of the moves in the taxi, to {LANDMARKS[goal]}", glyphs=(),
                            values=moves[0].ravel(), marked=moves[1].ravel(),
                            triangles=[direction(env, action) for action in range(MOVES)])  # fmt: skip
        else:
            where = f"at {LANDMARKS[place]}" if place in waiting else "in the taxi"
            bar = "V" if place == riding else ""  # one for the whole row
            panel = replace(panel, title=f"passenger {where}, going to {LANDMARKS[goal]}", marks=marks, bar=bar)
        columns[place].append(panel)
    if table.visits is not None:
        columns.append(_taxi_visits(replace(cells, limits=None, bar="visits"), table.visits.sum(1)))
    note = ("P pick up", "D drop off", "black: passenger", "orange: destination", "red: greedy move", *table.note)
    return Page(columns, GAP.join(note))


def _taxi_states(place: int, goal: int) -> list[int]:
    """The states of all cells with the passenger at a landmark, or in the taxi, and one destination."""
    return [(cell * (len(LANDMARKS) + 1) + place) * len(LANDMARKS) + goal for cell in range(TAXI_SIDE**2)]


def _taxi_visits(cells: Panel, visits: Array) -> list[Panel]:
    """Visits (S,) with the passenger waiting, and in the taxi."""
    by_place = visits.reshape(TAXI_SIDE**2, len(LANDMARKS) + 1, len(LANDMARKS)).sum(2)  # (cells, places)
    waiting = replace(cells, title="Visits, passenger waiting", values=by_place[:, :-1].sum(1))
    return [waiting, replace(cells, title="Visits, passenger in the taxi", values=by_place[:, -1])]


def _blackjack(table: Table) -> Page:
    """V and the greedy action, and visits below, without and with a usable ace; the player's sum goes up."""
    values, glyphs, _, _ = learnt(table)
    sums, cards = range(21, 11, -1), range(1, 11)
    ticks = (["A", *map(str, cards[1:])], list(map(str, sums)))
    columns: list[list[Panel]] = []
    for ace, name in enumerate(("No usable ace", "Usable ace")):
        states = [(total * 11 + card) * 2 + ace for total in sums for card in cards]  # as `discretize` numbers them
        cells = Panel(
            f"{name}: V and the greedy action",
            (len(sums), len(cards)),
            (0.66, 0.55),
            values[states],
            ticks=ticks,
            labels=("dealer shows", "player's sum"),
        )
        columns.append([replace(cells, bar="V", limits=_limits(values), glyphs=[glyphs[state] for state in states])])
        if table.visits is not None:
            counts = table.visits.sum(1)[states]
            columns[-1].append(replace(cells, title=f"{name}: visits", bar="visits", values=counts))
    return Page(columns, GAP.join(("S stick", "H hit", *table.note)))


def _matrix(table: Table) -> Page:
    """States (rows) by actions (columns), for an environment without a map."""
    states, actions = table.q.shape
    known = learnt(table)
    rows = np.linspace(0, states - 1, min(states, MAX_STATES)).round().astype(int)
    names = (
        [str(table.first_action + action) for action in range(actions)],
        [str(table.first_state + row) for row in rows],
    )
    cells = Panel(
        "Q (red: greedy)",
        (len(rows), actions),
        (min(max(6 / actions, 0.12), 1.2), min(max(9 / len(rows), 0.06), 0.4)),
        known.q[rows].ravel(),
        ticks=names,
        labels=("action", "state"),
    )
    columns = [[replace(cells, bar="Q", limits=_limits(known.q), marked=known.greedy[rows].ravel())]]
    if table.visits is not None:
        columns.append([replace(cells, title="Visits", bar="visits", values=table.visits[rows].ravel())])
    some = [] if len(rows) == states else [f"{len(rows)} of {states} states, evenly chosen"]
    return Page(columns, GAP.join((*some, *table.note)))


def _limits(values: Array) -> tuple[float, float]:
    """Ends of the colours: those of the values, but rare heavy punishments do not flatten everything else."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, quarter, three, high = (float(q) for q in np.quantile(known, (0, 0.25, 0.75, 1)))
    if three > quarter:
        low = float(known[known >= quarter - 3 * (three - quarter)].min())  # Tukey's far-out fence
    return (low, high) if high > low else (low - 0.5, high + 0.5)

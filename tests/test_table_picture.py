"""Pictures of tables: PNGs that decode again, and arrows and cells that agree with the dynamics."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import gymnasium as gym
from PIL import Image, ImageColor

from rltrain.pictures.panels import DPI, UNKNOWN
from rltrain.pictures.table_picture import (
    DESTINATION,
    MAX_STATES,
    PASSENGER,
    Table,
    direction,
    draw_table,
    layout,
    learnt,
)

FROZEN = {"id": "FrozenLake-v1", "is_slippery": False}
MADE = {
    "frozen4": FROZEN,
    "frozen8": FROZEN | {"map_name": "8x8"},
    "frozen_tiny": FROZEN | {"desc": ["SF", "HG"]},
    "frozen_tall": FROZEN | {"desc": ["SF", "FF", "HF", "FF", "FF", "FG"]},
    "frozen_strip": FROZEN | {"desc": ["S" + 58 * "F" + "G"]},  # cells too small for numbers
    "cliff": {"id": "CliffWalking-v1"},
    "taxi": {"id": "Taxi-v4"},
    "blackjack": {"id": "Blackjack-v1"},
    "odd": {"id": "CartPole-v1"},
}
SHAPES = {"blackjack": (704, 2), "odd": (9, 3)}


def make(name):
    return gym.make(**MADE[name]).unwrapped


def table(name, *, visits=True, shape=None):
    """Random numbers, of which about a quarter was never tried."""
    env = make(name)
    shape = shape or SHAPES.get(name) or (int(env.observation_space.n), int(env.action_space.n))
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, shape) ** 5
    return Table(rng.normal(size=shape), counts if visits else None, env)


def panels(page):
    return [panel for column in page.columns for panel in column]


DRAWN = {
    "frozen_tiny": False, "frozen_tall": True, "frozen_strip": False,
    "cliff": True, "taxi": False, "blackjack": True, "odd": True,
}  # fmt: skip
"""What is drawn in full, and whether with visits; a few layouts with and without them are enough."""


@pytest.mark.parametrize(("name", "visits"), DRAWN.items())
def test_every_layout_draws_a_picture_of_the_size_of_its_panels(tmp_path, name, visits):
    one = table(name, visits=visits)
    if name in ("taxi", "blackjack", "cliff"):  # most of what takes time are the texts
        one.q[np.arange(len(one.q)) % 5 > 0] = np.nan
    draw_table(tmp_path / "a.png", one, title=f"what {name} learnt")
    with Image.open(tmp_path / "a.png") as image:
        width, height = image.size
        pixels = np.asarray(image.convert("RGB"))
    columns, _ = layout(one)
    assert abs(width - DPI * sum(max(p.width for p in column) for column in columns)) <= 2
    assert height > DPI * max(sum(p.height for p in column) for column in columns)
    assert width <= 2600
    assert len(np.unique(pixels[::3, ::3] @ (1, 256, 65536))) > 100
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()  # nothing runs out of the picture
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_visits_are_the_sum_over_actions_and_a_table_without_them_says_so():
    for name in ("frozen4", "cliff", "blackjack", "odd"):
        counted, bare = layout(table(name)), layout(table(name, visits=False))
        assert len(panels(counted)) == {"blackjack": 4}.get(name, len(panels(bare)) + 1)
        assert "never tried" in counted.note
        assert "grey" not in bare.note
    one = table("frozen4")
    assert panels(layout(one))[1].values.tolist() == one.visits.sum(1).tolist()
    assert "grey: out of reach" in layout(Table(one.q, None, one.env, np.arange(16) < 9)).note


@pytest.mark.parametrize("name", ["frozen4", "frozen8", "cliff", "taxi"])
def test_arrows_point_where_the_action_leads(name):
    env = make(name)
    columns, per_cell = {"frozen4": (4, 1), "frozen8": (8, 1), "cliff": (12, 1), "taxi": (5, 20)}[name]
    moves = {action: set() for action in range(env.action_space.n)}
    for state, actions in env.P.items():
        for action, [(_, after, reward, _)] in actions.items():
            here, there = np.divmod(state // per_cell, columns), np.divmod(after // per_cell, columns)
            if reward != -100:  # falling off the cliff leads to the start
                moves[action].add((int(there[0] - here[0]), int(there[1] - here[1])))
    for action, seen in moves.items():
        drawn = direction(env, action)
        if isinstance(drawn, str):
            assert (seen, drawn) == ({(0, 0)}, {4: "P", 5: "D"}[action])
        else:
            assert seen - {(0, 0)} == {drawn}


def test_ties_go_to_the_lowest_action_and_what_was_never_tried_is_not_drawn():
    q = np.array([[1.0, 1.0], [0.0, 2.0], [5.0, 6.0], [np.nan, 3.0]])
    visits = np.array([[1, 1], [4, 0], [0, 0], [1, 1]])
    values, glyphs, known, marked = learnt(Table(q, visits, make("blackjack")))
    np.testing.assert_array_equal(values, [1, 2, np.nan, 3])  # V is the maximum, of an untried action too
    assert glyphs == ["S", "H", "H", "H"]
    np.testing.assert_array_equal(known, [[1, 1], [0, np.nan], [np.nan, np.nan], [np.nan, 3]])
    np.testing.assert_array_equal(marked, [[True, False], [False, True], [False, False], [False, True]])
    reachable = np.array([False, True, True, True])
    assert np.isnan(learnt(Table(q, None, make("blackjack"), reachable))[0]).tolist() == [True, False, False, False]


def test_holes_goal_and_cliff_are_marks_and_have_no_value():
    for name, dark in (("frozen4", {5, 7, 11, 12}), ("cliff", set(range(37, 47)))):
        one = table(name, visits=False)
        first = panels(layout(one))[0]
        rows, columns = first.shape
        assert {y * columns + x for x, y, letter, _ in first.marks if letter in "HC"} == dark
        assert {y * columns + x for x, y, letter, _ in first.marks if letter == "G"} == {rows * columns - 1}
        assert set(np.flatnonzero(np.isnan(first.values))) == dark | {rows * columns - 1}


def test_taxi_cells_are_the_environments_states_and_walls_stop_the_taxi():
    env = make("taxi")
    q = np.zeros((500, 6))
    q[:, 0] = np.arange(500)  # the value names the state
    columns, _ = layout(Table(q, None, env))
    assert [len(column) for column in columns] == [4] * 5
    for passenger, column in enumerate(columns):
        for goal, panel in enumerate(column):
            if passenger == goal:  # cannot be: here stands Q of the four moves in the taxi
                moves = panel.values.reshape(5, 5, 4)
                assert all(moves[r, c, 0] == env.encode(r, c, 4, goal) for r in range(5) for c in range(5))
                assert not moves[..., 1:].any()
                assert panel.triangles == [(1, 0), (-1, 0), (0, 1), (0, -1)]  # south, north, east, west
                continue
            values = panel.values.reshape(5, 5)
            assert all(values[r, c] == env.encode(r, c, passenger, goal) for r in range(5) for c in range(5))
            styles = {mark.text: mark.style for mark in panel.marks}
            assert styles["RGYB"[goal]] == DESTINATION
            assert passenger == 4 or styles["RGYB"[passenger]] == PASSENGER
    east = {
        (c, r) for r in range(5) for c in range(4) if env.P[env.encode(r, c, 0, 1)][2][0][1] == env.encode(r, c, 0, 1)
    }
    assert set(columns[0][0].walls) == east
    assert len(east) == 6


def test_taxi_visits_are_summed_over_destinations_and_kept_apart_for_riders():
    env = make("taxi")
    visits = np.zeros((500, 6), np.int64)
    visits[env.encode(2, 3, 0, 1)] = 1  # six actions each
    visits[env.encode(2, 3, 1, 2)] = 1
    visits[env.encode(4, 0, 4, 3)] = 2
    waiting, riding = layout(Table(np.zeros((500, 6)), visits, env))[0][-1]
    assert [(waiting.values[2 * 5 + 3], waiting.values.sum())] == [(12, 12)]
    assert [(riding.values[4 * 5], riding.values.sum())] == [(12, 12)]


def test_blackjack_cells_are_sum_dealer_and_ace():
    q = np.zeros((704, 2))
    q[20 * 22 + 1 * 2 + 0] = [0.5, 0]  # 20 against an ace, no usable ace: row 1, column 0
    q[12 * 22 + 10 * 2 + 1] = [0, 0.25]  # 12 against a ten, usable ace: last row, last column
    (plain,), (ace,) = layout(Table(q, None, make("blackjack")))[0]
    assert (plain.values[10], plain.glyphs[10], np.count_nonzero(plain.values)) == (0.5, "S", 1)
    assert (ace.values[99], ace.glyphs[99], np.count_nonzero(ace.values)) == (0.25, "H", 1)
    assert (plain.ticks[1][1], plain.ticks[0][0], ace.ticks[1][9], ace.ticks[0][9]) == ("20", "A", "12", "10")


def test_another_environment_or_another_shape_falls_back_to_the_matrix_and_says_which_states_are_drawn():
    for one in (table("odd"), table("frozen4", shape=(9, 3))):
        columns, _ = layout(one)
        assert [[panel.shape for panel in column] for column in columns] == [[(9, 3)], [(9, 3)]]
    columns, note = layout(table("odd", shape=(1001, 2)))
    rows = columns[0][0].ticks[1]
    assert len(rows) == len(set(rows)) == MAX_STATES
    assert (rows[0], rows[-1]) == ("0", "1000")
    assert "200 of 1001 states" in note
    ticks = panels(layout(replace(table("odd"), first_state=3, first_action=7)))[0].ticks
    assert (ticks[0][0], ticks[1][-1]) == ("7", "11")


@pytest.mark.parametrize(("name", "tried"), [("frozen_tiny", 0), ("odd", 1)])
@pytest.mark.filterwarnings("error")
def test_a_table_in_which_nothing_or_the_same_was_learnt_still_draws(tmp_path, name, tried):
    one = table(name)
    draw_table(tmp_path / "a.png", Table(one.q * 0, one.visits * tried, one.env), title="a title " * 40 * tried)
    values = panels(layout(Table(one.q * 0, one.visits * tried, one.env)))[0].values
    assert np.isfinite(values).any() == bool(tried)
    with Image.open(tmp_path / "a.png") as image:
        grey = (np.asarray(image.convert("RGB")) == ImageColor.getrgb(UNKNOWN)).all(-1)
    assert grey.any()  # of "odd" a part was never tried

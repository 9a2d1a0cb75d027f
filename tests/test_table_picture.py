"""Pictures of tables: PNGs that decode again, arrows that agree with the dynamics, and a file that is whole or absent."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import gymnasium as gym
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from PIL import Image

from rltrain.table_picture import DPI, MAX_STATES, Panel, Table, direction, draw_table, layout, learnt, number

FROZEN = {"id": "FrozenLake-v1", "is_slippery": False}
MADE = {
    "frozen4": FROZEN,
    "frozen8": FROZEN | {"map_name": "8x8"},
    "frozen20": FROZEN | {"desc": generate_random_map(20, seed=1)},
    "frozen_tall": FROZEN | {"desc": ["SF", "FF", "HF", "FF", "FF", "FG"]},
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


def panels(drawn):
    return [panel for column in drawn[0] for panel in column]


@pytest.mark.parametrize(
    ("name", "visits"), [*((name, True) for name in MADE), *((name, False) for name in ("frozen4", "cliff", "odd"))]
)
def test_every_layout_draws_a_picture_of_the_size_of_its_panels(tmp_path, name, visits):
    one = table(name, visits=visits)
    draw_table(tmp_path / "a.png", one, title=f"what {name} learnt")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        width, height = image.size
        pixels = np.asarray(image.convert("RGB"))
    columns, _ = layout(one)
    assert abs(width - DPI * sum(max(p.inches()[3] for p in column) for column in columns)) <= 2
    assert height > DPI * max(sum(p.inches()[4] for p in column) for column in columns)
    assert width <= 2600
    assert len(np.unique(pixels[::3, ::3] @ (1, 256, 65536))) > 100
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()  # nothing runs out of the picture
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_equal_tables_give_equal_bytes_and_another_value_other_bytes(tmp_path):
    first, second, third = (tmp_path / f"{n}.png" for n in "abc")
    draw_table(first, table("frozen4"), title="t")
    draw_table(second, table("frozen4"), title="t")
    changed = table("frozen4")
    changed.q[1] += 1
    draw_table(third, changed, title="t")
    assert first.read_bytes() == second.read_bytes() != third.read_bytes()


def test_a_users_matplotlib_settings_change_nothing(tmp_path):
    import matplotlib

    draw_table(tmp_path / "a.png", table("odd"), title="t")
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 40, "axes.facecolor": "black"}):
        draw_table(tmp_path / "b.png", table("odd"), title="t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_missing_folder_raises_and_a_failed_write_keeps_the_old_picture(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="missing"):
        draw_table(tmp_path / "missing" / "a.png", table("frozen4"), title="t")
    assert not list(tmp_path.iterdir())
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("rltrain.table_picture.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        draw_table(path, table("frozen4"), title="t")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == b"old"


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


def test_triangles_lie_in_the_direction_of_their_action():
    env = make("cliff")
    ways = [direction(env, action) for action in range(4)]
    corners = Panel("", (2, 3), (1, 1), np.zeros(24), triangles=ways).polygons().reshape(6, 4, 3, 2)
    offsets = corners.mean(2)[4] - (1, 1)  # cell 4 of 2 rows and 3 columns: x 1, y 1
    np.testing.assert_allclose(offsets, [(x / 3, y / 3) for y, x in ways], atol=1e-12)
    one, two = corners[4, :, 1] - corners[4, :, 0], corners[4, :, 2] - corners[4, :, 0]
    np.testing.assert_allclose(np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2, 0.25)  # a quarter of a cell


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
        assert {y * columns + x for x, y, _, key in first.marks if key in "HC"} == dark
        assert {y * columns + x for x, y, _, key in first.marks if key == "G"} == {rows * columns - 1}
        assert set(np.flatnonzero(np.isnan(first.values))) == dark | {rows * columns - 1}


def test_taxi_cells_are_the_environments_states_and_walls_stop_the_taxi():
    env = make("taxi")
    q = np.zeros((500, 6))
    q[:, 0] = np.arange(500)  # the value names the state
    columns, _ = layout(Table(q, None, env))
    assert [len(column) for column in columns] == [4] * 5
    for passenger, column in enumerate(columns):
        for goal, panel in enumerate(column):
            values = panel.values.reshape(5, 5)
            assert all(values[r, c] == env.encode(r, c, passenger, goal) for r in range(5) for c in range(5))
            assert {text: key for _, _, text, key in panel.marks}["RGYB"[goal]] == "destination"
    east = {
        (c, r) for r in range(5) for c in range(4) if env.P[env.encode(r, c, 0, 1)][2][0][1] == env.encode(r, c, 0, 1)
    }
    assert set(columns[0][0].walls) == east
    assert len(east) == 6


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


@pytest.mark.parametrize("name", ["frozen4", "odd"])
@pytest.mark.filterwarnings("error")
def test_a_table_in_which_nothing_or_the_same_was_learnt_still_draws(tmp_path, name):
    one = table(name)
    draw_table(tmp_path / "a.png", Table(one.q * 0, one.visits * 0, one.env), title="")
    draw_table(tmp_path / "b.png", Table(one.q * 0, one.visits, one.env), title="a title " * 40)
    assert len(list(tmp_path.iterdir())) == 2


def test_numbers_have_the_decimals_of_their_neighbours():
    assert [number(v, 0.9) for v in (0.874, -0.5)] == ["0.87", "\u22120.50"]
    assert [number(v, 13) for v in (-12.96, 1.04)] == ["\u221213.0", "1.0"]
    assert [number(v, 113) for v in (-113, -1.4)] == ["\u2212113", "\u22121"]
    assert [number(v, 1e3) for v in (9999, 12_345, 3_000_000, 25_000_000)] == ["9999", "12k", "3000k", "25M"]

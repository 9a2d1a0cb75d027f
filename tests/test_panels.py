"""Panels: pixels that show what was asked for, equal bytes, and a file that is whole or absent."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from PIL import Image, ImageColor

from rltrain.pictures.panels import (
    DOWN,
    DPI,
    GREEDY,
    INK,
    LEFT,
    PAGE_HEAD,
    RIGHT,
    TITLE,
    UNKNOWN,
    UP,
    Mark,
    MarkStyle,
    Page,
    Panel,
    draw_page,
    number,
)


def panel(values, **more):
    return Panel("p", (1, len(values)), (0.8, 0.8), np.array(values, float), **({"limits": (0.0, 1.0)} | more))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def patch(path, one, column, row=0, size=0.9):
    """Pixels inside a cell of the page's first panel."""
    x, y = one.left + (column + 0.5) * one.cell[0], PAGE_HEAD + TITLE + (row + 0.5) * one.cell[1]
    half = size * one.cell[0] / 2
    rows, columns = (slice(int((v - half) * DPI), int((v + half) * DPI)) for v in (y, x))
    return pixels(path)[rows, columns].reshape(-1, 3)


def has(seen, colour):
    return (np.abs(seen - ImageColor.getrgb(colour)).max(1) <= 2).any()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One panel with everything in it: unknown, low, high and greedy, covered by a mark; a wall right of cell 1."""
    path = tmp_path_factory.mktemp("panels") / "a.png"
    cross = Mark(3, 0, "X", MarkStyle("#00ff00", INK, covers=True))
    corner = Mark(0, 0, "Y", MarkStyle("#0000ff", INK, covers=False))
    marked = np.array([False, False, True, False])
    one = panel([np.nan, 0, 1, 0.5], marked=marked, marks=[cross, corner], walls=[(1, 0)], bar="b")
    draw_page(path, Page([[one]], "a note"), title="a title")
    return path, one


def test_a_picture_is_as_large_as_its_panels_and_nothing_runs_out_of_it(drawn):
    path, one = drawn
    seen = pixels(path)
    assert abs(seen.shape[1] - DPI * one.width) <= 2
    assert seen.shape[0] > DPI * one.height
    for edge in (seen[0], seen[-1], seen[:, 0], seen[:, -1]):
        assert (edge == 255).all()
    assert [other.name for other in path.parent.iterdir()] == ["a.png"]


def test_cells_have_the_colours_of_their_values_and_marks_lie_over_them(drawn):
    path, one = drawn
    unknown, low, high, covered = (patch(path, one, column) for column in range(4))
    assert has(unknown, UNKNOWN)
    assert has(unknown, "#0000ff")
    assert has(low, "#440154")  # the ends of viridis
    assert has(high, "#fde725")
    assert has(covered, "#00ff00")
    assert [has(cell, GREEDY) for cell in (low, high)] == [False, True]
    inner = [has(patch(path, one, column + 0.5, size=0.05), INK) for column in range(3)]
    assert inner == [False, True, False]  # the wall


def test_equal_pages_give_equal_bytes_whatever_the_users_settings_and_another_value_other_bytes(tmp_path):
    import matplotlib

    first, second, third = (tmp_path / f"{n}.png" for n in "abc")
    draw_page(first, Page([[panel([0, 1])]], ""), title="")
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 40, "axes.facecolor": "black"}):
        draw_page(second, Page([[panel([0, 1])]], ""), title="")
    draw_page(third, Page([[panel([0, 0.9])]], ""), title="")
    assert first.read_bytes() == second.read_bytes() != third.read_bytes()


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(OSError, match="missing"):
        draw_page(tmp_path / "missing" / "a.png", Page([[panel([0.0])]], ""), title="t")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
def test_panels_without_any_known_value_still_draw(tmp_path):
    nothing = [panel([np.nan, np.nan], glyphs=[UP, "P"], bar="V"), panel([0, 0], limits=None, bar="visits")]
    draw_page(tmp_path / "a.png", Page([nothing], "n" * 400), title="a title " * 40)
    assert has(patch(tmp_path / "a.png", nothing[0], 1), UNKNOWN)


def test_triangles_lie_in_the_direction_of_their_action():
    ways = [UP, RIGHT, DOWN, LEFT]
    corners = Panel("", (2, 3), (1, 1), np.zeros(24), triangles=ways).polygons().reshape(6, 4, 3, 2)
    offsets = corners.mean(2)[4] - (1, 1)  # cell 4 of 2 rows and 3 columns: x 1, y 1
    np.testing.assert_allclose(offsets, [(x / 3, y / 3) for y, x in ways], atol=1e-12)
    one, two = corners[4, :, 1] - corners[4, :, 0], corners[4, :, 2] - corners[4, :, 0]
    np.testing.assert_allclose(np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2, 0.25)  # a quarter of a cell


def test_numbers_have_the_decimals_of_their_neighbours():
    assert [number(v, 0.9) for v in (0.874, -0.5)] == ["0.87", "\u22120.50"]
    assert [number(v, 13) for v in (-12.96, 1.04)] == ["\u221213.0", "1.0"]
    assert [number(v, 113) for v in (-113, -1.4)] == ["\u2212113", "\u22121"]
    assert [number(v, 1e3) for v in (9999, 12_345, 3_000_000, 25_000_000)] == ["9999", "12k", "3000k", "25M"]

"""Figures: what is drawn for many seeds and for few, in colours of the page, as files."""

import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from made import logged
from PIL import Image

from rltrain.cli.main import main
from rltrain.records import Curve
from rltrain.report.blocks import Table
from rltrain.report.figures import Series, draw_curves, drawing, legend, sheet
from rltrain.report.methods import find_methods
from rltrain.report.outcome import compared, outcome_section
from rltrain.report.plotting import plot
from rltrain.report.style import COLOURS, INK, figure_number, plain_number, steps_label, style
from rltrain.report.svg import inline
from rltrain.statistics.curves import mean_band


def curves(*rows):
    return [Curve(np.arange(1, len(row) + 1) * 10, np.array(row, float)) for row in rows]


def drawn(*series):
    with drawing():
        figure, (axes,) = sheet(360, 235)
        draw_curves(axes, [Series(f"m{at}", style(at), each) for at, each in enumerate(series)])
    return figure, axes


def test_the_band_of_a_mean_is_students_t_at_each_step():
    # runs 1..5: mean 3, s = sqrt(2.5), t(4, 0.975) = 2.7764451052, so half = 2.7764451052 * sqrt(2.5 / 5) = 1.963243
    band = mean_band(np.array([[1.0, 7], [2, 7], [3, 7], [4, 7], [5, 7]]), np.array([10, 20]))
    np.testing.assert_allclose(band.value, [3, 7])
    np.testing.assert_allclose(band.low, [3 - 1.963243161, 7], atol=1e-8)
    np.testing.assert_allclose(band.high, [3 + 1.963243161, 7], atol=1e-8)
    assert mean_band(np.ones((4, 2)), np.array([10, 20])).low is None


def test_five_seeds_have_a_band_and_a_mean_and_four_are_points_without_either():
    _, axes = drawn(curves(*([i, i + 1.0] for i in range(5))))
    assert len(axes.collections) == 1
    assert len(axes.lines) == 6
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), [2, 3])
    _, axes = drawn(curves(*([i, i + 1.0] for i in range(4))))
    assert len(axes.collections) == 0
    assert [line.get_marker() for line in axes.lines] == ["o"] * 4


def test_a_single_entry_shows_its_seeds_and_their_mean_with_its_interval():
    _, axes = drawn(curves(*([value] for value in (1.0, 2.0, 3.0, 4.0, 5.0))))
    assert [line.get_marker() for line in axes.lines[:5]] == ["o"] * 5
    (bars,) = axes.containers
    (ends,) = bars[2][0].get_segments()
    np.testing.assert_allclose(ends[:, 1], [3 - 1.963243161, 3 + 1.963243161], atol=1e-8)


def test_single_entries_at_different_steps_are_one_point_each_where_the_last_one_is():
    _, axes = drawn([Curve(np.array([10 * at]), np.array([float(at)])) for at in range(1, 6)])
    assert [(line.get_xdata().tolist(), line.get_marker()) for line in axes.lines[:5]] == [([50], "o")] * 5
    assert len(axes.containers) == 1


def test_rare_extremes_do_not_flatten_a_curve_and_are_named():
    values = [*np.linspace(0, 1, 99), -5_000]
    _, axes = drawn(curves(values))
    assert axes.get_ylim()[0] > -1
    assert [text.get_text() for text in axes.texts] == ["not shown: down to \u22125,000"]
    _, axes = drawn(curves([0, 1, 2]))
    assert not axes.texts


def test_methods_differ_in_colour_and_in_line_style():
    looks = [style(number) for number in range(30)]
    assert len({(look.colour, look.dashes) for look in looks}) == 30
    assert len({look.dashes for look in looks[:5]}) == 5


def test_an_inlined_figure_uses_the_pages_colours_and_shares_no_name_with_another():
    figure, _ = drawn(curves([1, 2, 3]), curves([2, 2, 2]))
    with drawing():
        first, second = (inline(figure, name=name, label="<a> & b") for name in ("one", "two"))
    assert not any(colour in first for colour in (*COLOURS, INK))
    assert "currentColor" in first
    assert "var(--series-0)" in first
    assert "var(--series-1)" in first
    assert "DejaVu" not in first
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = {*re.findall(r"url\(#([^)]+)\)", first), *re.findall(r'href="#([^"]+)"', first)}
    assert used == ids[0]
    root = ET.fromstring(first)
    assert root.get("aria-label") == "<a> & b"
    assert "width" not in root.attrib


def test_a_legend_of_long_names_stays_inside_the_figure():
    with drawing():
        figure, _ = sheet(360, 235)
        legend(figure, [(f"{'a long name ' * 4}{at}", style(at)) for at in range(3)])
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
    assert box.width <= figure.bbox.width


def test_numbers_are_written_for_people():
    assert [figure_number(x) for x in (0, 0.001234, 0.5, 7.5, 123.456, -12345.6)] == [
        "0.000",
        "0.0012",
        "0.500",
        "7.500",
        "123.5",
        "\u221212,346",
    ]
    assert figure_number(0.5, beside=12.0) == "0.50"
    assert [plain_number(x) for x in (0.0, 500.0, 0.74, -13.0, 1_200.0)] == ["0", "500", "0.74", "\u221213", "1,200"]
    assert [steps_label(x) for x in (500, 20_000, 1_500_000)] == ["500", "20k", "1.5M"]


def call(*arguments, code=0):
    import sys
    from unittest.mock import patch

    with patch.object(sys, "argv", ["rltrain", *map(str, arguments)]), pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code or 0) == code


def test_plot_writes_svg_and_png_with_a_panel_for_each_metric(tmp_path, capsys):
    for seed in range(5):
        group = logged(tmp_path, "a", seed, eval__return=[1.0, 2.0, seed], loss=[3.0, 2.0, 1.0])
    call("plot", group, "--out", tmp_path / "one.svg", "--metric", "eval/return", "--metric", "loss")
    told = capsys.readouterr().out
    assert "95 % t interval" in told
    text = (tmp_path / "one.svg").read_text()
    ET.fromstring(text)
    assert "Return of the greedy policy" in text
    assert ">Loss, CartPole-v1<" in text
    call("plot", group, "--out", tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size[0] > 800


def test_copies_of_runs_are_not_drawn_and_n_is_of_one_environment(tmp_path):
    """Two seeds, one of them twice, of which a comparison takes two; and one seed in another environment."""
    for seed in range(2):
        group = logged(tmp_path, "a", seed, eval__return=[1.0, 2.0])
    shutil.copytree(group / "seed-0", group / "again")
    other = shutil.copytree(group / "seed-0", group / "lake") / "config.yaml"
    other.write_text(other.read_text().replace("CartPole-v1", "FrozenLake-v1"))
    (method,) = find_methods([group])
    assert {task: len(method.curves(task, "eval/return")) for task in method.tasks} == {
        "CartPole-v1": 2,
        "FrozenLake-v1": 1,
    }
    told = plot(tmp_path / "x.svg", [method])
    assert told == "Fewer than 5 seeds (a: 1 and 2) are too few for an interval: each seed is drawn by itself."
    assert ">a (n = 2)<" in (tmp_path / "x.svg").read_text()


def test_the_intervals_of_a_table_are_called_what_they_are(tmp_path):
    """Of one environment Student's t for means; of all together the bootstrap, which draws within each."""
    for seed in range(2):
        group = logged(tmp_path, "a", seed, eval__return=[1.0, 2.0])
    other = shutil.copytree(group / "seed-0", group / "lake") / "config.yaml"
    other.write_text(other.read_text().replace("CartPole-v1", "FrozenLake-v1"))
    methods = find_methods([group])
    blocks = outcome_section(methods, compared(methods, None, None)).blocks
    notes = {
        block.caption: block.note for block in blocks if isinstance(block, Table) and block.name.startswith("figures")
    }
    assert ["Student's t" in note for note in notes.values()] == [True, True, False]
    assert all("bootstrap" in note for note in notes.values())
    assert list(notes)[-1].startswith("all environments")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["{group}", "--out", "{tmp}/x.pdf"], 2, "must end in .svg or .png"),
        (["{group}", "--out", "{tmp}/none/x.svg"], 73, "there is no folder"),
        (["{tmp}/missing", "--out", "{tmp}/x.svg"], 66, "no such run"),
        (["{group}", "--out", "{tmp}/x.svg", "--metric", "lost"], 2, "'lost' was never logged; there are: eval/return"),
    ],
)
def test_plot_refuses_in_one_line(tmp_path, capsys, arguments, code, told):
    group = logged(tmp_path, "a", 0, eval__return=[1.0, 2.0])
    call("plot", *(each.format(group=group, tmp=tmp_path) for each in arguments), code=code)
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))

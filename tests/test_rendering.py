"""What `rltrain render` shows of a table: the picture's colours, the arrows in the terminal, and mistakes."""

import io
import re
import sys
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import colormaps
from PIL import Image, ImageColor

from rltrain.cli.main import main
from rltrain.config.load import dump, load
from rltrain.experiment import Run
from rltrain.pictures.panels import DPI, HATCH, INK, PAGE_HEAD, TITLE
from rltrain.pictures.table_picture import ORANGE, layout, table_of
from rltrain.saved import SavedPolicy

CONFIG = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.5, gamma: 0.99}
exploration: {name: epsilon_greedy, epsilon: 0.5}
train: {total_steps: 2_000, log_every: 1_000}
eval: {every: 2_000, episodes: 1}
checkpoint: {every: 1_000}
seed: 0
device: cpu
"""
MADE = {
    "frozen": [],
    "planned": ["agent={name: value_iteration}", "exploration=null"],
    "cliff": ["env.id=CliffWalking-v1", "env.max_episode_steps=200", "agent.learning_rate=1"],
    "taxi": ["env.id=Taxi-v4"],
    "blackjack": ["env.id=Blackjack-v1", "env.kwargs={sab: false}", "env.wrappers=[{name: discretize}]"],
    "corridor": ["env.id=tests/Corridor-v0"],
}
SYMBOLS = {"frozen": "←↓→↑", "cliff": "↑→↓←", "taxi": "↓↑→←PD"}


class Corridor(gym.Env):
    """States 3..7 in a row, actions 10 (back) and 11 (on); the end pays 1. Nothing is numbered from zero."""

    metadata = {"render_modes": ["ansi"], "render_fps": 4}
    observation_space = gym.spaces.Discrete(5, start=3)
    action_space = gym.spaces.Discrete(2, start=10)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.place = 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 3
        return self.place, {}

    def step(self, action):
        self.place = max(3, self.place + (1 if action == 11 else -1))
        return self.place, float(self.place == 7), self.place == 7, False, {}

    def render(self):
        return f"place {self.place} ☺"


gym.register("tests/Corridor-v0", Corridor, max_episode_steps=50)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folder by name, trained when it is asked for first."""
    folder = tmp_path_factory.mktemp("rendering")
    (folder / "config.yaml").write_text(CONFIG)

    class Runs(dict):
        def __missing__(self, name):
            self[name] = folder / name
            self[name].mkdir()
            config = load(folder / "config.yaml", MADE[name]).config
            (self[name] / "config.yaml").write_text(dump(config))
            run = Run(config, self[name])
            run.train()
            run.close()
            return self[name]

    return Runs()


@pytest.fixture
def render(monkeypatch, capsys):
    """`rltrain render` in this process. Returns what it printed; every failure is exit code 2 and one line."""

    def call(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["rltrain", "render", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        printed = capsys.readouterr()
        assert (exit.value.code or 0) == 2 * fails, printed
        assert not fails or printed.err.count("\n") == 1
        return printed.err if fails else printed.out

    return call


def saved_table(run):
    with SavedPolicy.open(run) as policy:
        return table_of(policy, gym.make(policy.spec.id).unwrapped)


def cell(pixels, page, column, index):
    """Colour of one cell of the panel on top of a column of the page, beside arrows, numbers and marks."""
    panel = page.columns[column][0]
    y, x = divmod(index, panel.shape[1])
    before = sum(max(other.width for other in column) for column in page.columns[:column])
    left = before + panel.left + (x + 0.88) * panel.cell[0]
    top = PAGE_HEAD + TITLE + (y + 0.12) * panel.cell[1]
    return pixels[int(top * DPI), int(left * DPI)].astype(int)


@pytest.mark.parametrize(
    ("name", "column", "special"),
    [
        ("frozen", 0, {5: INK, 7: INK, 11: INK, 12: INK, 15: ORANGE}),
        ("cliff", 0, dict.fromkeys(range(37, 47), INK) | {47: ORANGE}),
        ("taxi", 1, {}),  # the passenger waits at G and wants to R
    ],
)
def test_the_picture_has_the_colours_of_the_values_and_of_the_map(runs, render, tmp_path, name, column, special):
    path = tmp_path / "a.png"
    assert render(runs[name], "--format", "png", "--out", path) == f"wrote {path}\n"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    table = saved_table(runs[name])
    page = layout(table)
    panel = page.columns[column][0]
    states = range(len(table.q)) if name != "taxi" else [place * 20 + 4 for place in range(25)]
    tried = [state for state in states if table.visits[state].any()]
    assert len(tried) >= 5
    for index, state in enumerate(states):
        seen = cell(pixels, page, column, index)
        if index in special:
            assert (seen == ImageColor.getrgb(special[index])).all(), index
        elif state in tried:
            share = np.clip((table.q[state].max() - panel.limits[0]) / np.diff(panel.limits)[0], 0, 1)
            assert np.abs(seen - 255 * np.array(colormaps["viridis"](share)[:3])).max() <= 2, index
        else:
            assert seen.min() == seen.max() >= ImageColor.getrgb(HATCH)[0], index  # grey


def test_the_picture_lies_in_the_run_folder_and_names_agent_environment_and_step(runs, render, monkeypatch):
    titles = []

    def draw(path, table, *, title):
        titles.append(title)
        path.write_bytes(b"drawn")

    monkeypatch.setattr("rltrain.pictures.rendering.draw_table", draw)
    assert render(runs["frozen"], "--format", "png") == f"wrote {runs['frozen'] / 'render-step2000.png'}\n"
    assert (runs["frozen"] / "render-step2000.png").read_bytes() == b"drawn"
    assert render(runs["frozen"], "--format", "png", "--checkpoint", "1000").endswith("render-step1000.png\n")
    assert titles == ["q_learning on FrozenLake-v1, step 2,000", "q_learning on FrozenLake-v1, step 1,000"]


def test_a_learner_has_visits_a_planner_has_none_and_the_model_tells_what_can_be_reached(runs):
    learner, planner, blackjack = (saved_table(runs[name]) for name in ("frozen", "planned", "blackjack"))
    assert learner.visits.sum() == 2_000
    assert planner.visits is None
    for table in (learner, planner):
        assert set(np.flatnonzero(~table.reachable)) == {5, 7, 11, 12, 15}
    assert planner.q[14].max() == pytest.approx(0.863, abs=1e-3)  # beside the goal; known from value iteration
    assert [len(column) for column in layout(planner).columns] == [1, 1]
    assert blackjack.q.shape == (704, 2)
    assert blackjack.reachable.sum() == 280  # 10 cards by sums 4..21 without and 12..21 with an ace


def test_states_and_actions_that_start_elsewhere_keep_their_numbers(runs, render, tmp_path):
    table = saved_table(runs["corridor"])
    assert table.q[3].argmax() == 1  # beside the end: on
    assert table.q[4].tolist() == [0, 0]  # the end
    assert layout(table).columns[0][0].ticks == (["10", "11"], ["3", "4", "5", "6", "7"])
    render(runs["corridor"], "--format", "png", "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 500
    text = render(runs["corridor"], "--format", "ansi")
    assert re.search(r"place 4 ☺\nstep 1   action 11   return 0\nQ  10 \S+  11 \S+\*\n", text)
    assert "step 4   action 11   return 1\nepisode 1: return 1, 4 steps\n" in text


@pytest.mark.parametrize("name", SYMBOLS)
def test_text_marks_the_greedy_action_which_is_taken_next(runs, render, name):
    text = render(runs[name], "--format", "ansi", "--seed", 1)
    captions = re.findall(r"step (\d+)(?:   action (\S+))?   return \S+(?:\nQ  (.*))?\n", text)
    assert [int(step) for step, _, _ in captions] == list(range(len(captions)))
    q = {tuple(f"{value:.3f}" for value in row) for row in saved_table(runs[name]).q}
    for (_, _, shown), (_, taken, _) in pairwise(captions):
        entries = re.findall(r"(\S) (-?[\d.]+)(\*?)", shown)
        assert "".join(symbol for symbol, _, _ in entries) == SYMBOLS[name]
        assert tuple(value for _, value, _ in entries) in q
        (marked,) = [(symbol, float(value)) for symbol, value, star in entries if star]
        assert marked[1] == max(float(value) for _, value, _ in entries)
        assert marked[0] == taken
    assert "\x1b[1;32m" not in text


def test_the_arrow_in_the_text_points_where_the_walker_goes(runs, render):
    text = render(runs["cliff"], "--format", "ansi")
    frames = re.findall(r"((?:[oxCT ]+\n){4})\s*step \d+(?:   action (\S))?", text)
    places = [divmod(frame.replace(" ", "").replace("\n", "").index("x"), 12) for frame, _ in frames]
    moves = {"↑": (-1, 0), "→": (0, 1), "↓": (1, 0), "←": (0, -1)}
    seen = set()
    for (before, after), (_, taken) in zip(pairwise(places), frames[1:], strict=True):
        move = (after[0] - before[0], after[1] - before[1])
        assert move in ((0, 0), moves[taken])
        seen.add(move)
    assert len(seen - {(0, 0)}) >= 2


class Terminal(io.TextIOWrapper):
    """A standard output of another encoding."""

    def __init__(self, encoding, errors="strict", tty=False):
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, newline="\n")
        self.tty = tty

    def isatty(self):
        return self.tty

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


def on(monkeypatch, terminal, *arguments):
    monkeypatch.setattr(sys, "argv", ["rltrain", "render", *map(str, arguments)])
    monkeypatch.setattr("rltrain.pictures.rendering.time.sleep", lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        with pytest.raises(SystemExit) as exit:
            main()
    assert not exit.value.code
    return terminal.text()


@pytest.mark.parametrize("errors", ["strict", "replace", "surrogateescape"])
def test_a_terminal_without_arrows_shows_numbers(runs, monkeypatch, errors):
    text = on(monkeypatch, Terminal("ascii", errors), runs["taxi"], "--format", "ansi")
    assert re.search(r"\nQ  0 \S+  1 \S+  2 \S+  3 \S+  4 \S+  5 \S+\n", text)
    assert re.search(r"step 1   action [0-5]   return", text)
    assert "?" not in text
    strange = on(monkeypatch, Terminal("ascii", errors), runs["corridor"], "--format", "ansi")
    assert "place 4 ?" in strange  # the environment's own sign


def test_colours_are_for_terminals_and_stay_out_of_files(runs, monkeypatch, tmp_path):
    monkeypatch.delenv("NO_COLOR", raising=False)
    arguments = runs["frozen"], "--format", "ansi", "--out", tmp_path / "new" / "a.txt"
    text = on(monkeypatch, Terminal("utf-8", tty=True), *arguments)
    shown = re.findall(r"\x1b\[1;32m([←↓→↑]) -?[\d.]+\*\x1b\[0m", text)
    taken = re.findall(r"action (\S)", text)
    assert shown == taken
    assert len(shown) > 1
    kept = (tmp_path / "new" / "a.txt").read_text(encoding="utf-8")
    assert "\x1b[1;32m" not in kept
    assert re.findall(r"([←↓→↑]) -?[\d.]+\*", kept) == taken
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;32m" not in on(monkeypatch, Terminal("utf-8", tty=True), runs["frozen"], "--format", "ansi")


def test_what_cannot_be_drawn_or_written_is_one_line(runs, render, tmp_path, monkeypatch):
    message = render(runs["blackjack"], "--format", "ansi", fails=True)
    assert message == "Blackjack-v1 cannot be drawn as ansi: it offers human, rgb_array\n"
    (tmp_path / "file.png").write_bytes(b"old")
    for ending in (".png", ".txt", ".gif"):
        below, folder = tmp_path / "file.png" / f"a{ending}", tmp_path / f"folder{ending}"
        folder.mkdir()
        assert render(runs["frozen"], "--out", below, fails=True).startswith(f"{below}: cannot be written: ")
        assert render(runs["frozen"], "--out", folder, fails=True) == f"{folder}: cannot be written: it is a folder\n"
        folder.rmdir()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rltrain.pictures.film.os.replace", full)
    path = tmp_path / "file.png"
    message = render(runs["frozen"], "--format", "png", "--out", path, fails=True)
    assert message == f"{path}: cannot be written: No space left on device\n"
    assert path.read_bytes() == b"old"
    assert [other.name for other in tmp_path.iterdir()] == ["file.png"]


def test_a_window_that_nobody_could_see_is_refused(runs, render, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    message = render(runs["frozen"], "--format", "human", fails=True)
    assert message == "--format human opens a window, and there is no display: use mp4, gif, png or ansi\n"


BEGINNINGS = {".mp4": b"ftyp", ".gif": b"GIF8", ".png": b"PNG", ".txt": b"step 0"}
"""What the first bytes of a file hold."""


def test_the_ending_of_the_file_is_its_format(runs, render, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    for ending, beginning in BEGINNINGS.items():
        path = tmp_path / f"film{ending}"
        assert f"wrote {path}" in render(runs["frozen"], "--out", path)
        assert beginning in path.read_bytes()[:100], ending


def test_an_ending_that_is_of_no_format_or_of_another_is_refused_before_anything_is_played(
    runs, render, tmp_path, monkeypatch
):
    monkeypatch.setattr("rltrain.pictures.rendering.render_policy", lambda *_, **__: pytest.fail("it was played"))
    path = tmp_path / "film.webm"
    message = render(runs["frozen"], "--out", path, fails=True)
    assert message == f"--out: {path}: the name must end in .mp4 or .gif or .png or .txt\n"
    path = tmp_path / "film.mp4"
    message = render(runs["frozen"], "--format", "gif", "--out", path, fails=True)
    assert message == f"--out: {path}: the name must end in .gif\n"
    assert "writes no file" in render(runs["frozen"], "--format", "human", "--out", path, fails=True)

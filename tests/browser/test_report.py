"""The report in a real browser: `make test-browser`. CHROMIUM names the browser; else playwright's own is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rltrain.config.load import dump, load
from rltrain.experiment import Run

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

RLTRAIN = [sys.executable, "-m", "rltrain"]
CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SHORT = ["train.total_steps=4000", "eval.every=1000", "eval.episodes=5"]
STUDY = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.1}
train: {total_steps: 2_000, log_every: 200}
eval: {every: 200, episodes: 2}
device: cpu
tune:
  pruner: median
  trials: 30
  seeds_per_trial: 2
  objective: eval/exact_return
  confirm: {top: 2, seeds: 5}
  search:
    agent.learning_rate: {log_uniform: [0.01, 1.0]}
    agent.gamma: {choice: [0.95, 0.99, 0.999]}
    exploration.name: {choice: [epsilon_greedy, boltzmann]}
    exploration.epsilon: {uniform: [0.05, 1.0], when: {exploration.name: epsilon_greedy}}
    exploration.temperature: {log_uniform: [0.001, 1], when: {exploration.name: boltzmann}}
"""
MADE = {
    "q_learning": ["q_learning_frozenlake_4x4.yaml", "train.log_every=500", *SHORT],
    "ppo": ["ppo_cartpole.yaml", *SHORT],
    "a2c": ["a2c_cartpole.yaml", "train.log_every=500", *SHORT],
}


def rltrain(*arguments, folder=None):
    done = subprocess.run([*RLTRAIN, *map(str, arguments)], capture_output=True, text=True, timeout=600, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(config, folder):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    run = Run(config, folder)
    run.train()
    run.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A page with videos of two methods with five seeds each, one with pictures and a table, and one on a study."""
    root = tmp_path_factory.mktemp("browser")
    for name, (config, *settings) in MADE.items():
        for seed in range(5):
            train(load(CONFIGS / config, [*settings, f"seed={seed}"]).config, root / name / f"seed-{seed}")
    rltrain("report", root / "ppo", root / "a2c", "--out", root / "videos.html")
    rltrain("report", root / "q_learning", "--out", root / "table.html", "--no-videos")
    (root / "search.yaml").write_text(STUDY)
    rltrain("tune", "search.yaml", "--study", "s", "--quiet", folder=root)
    rltrain("report", root / "runs" / "search" / "tune" / "s", "--out", root / "study.html")
    return root


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as tools:
        own = tools.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=QUIET)
        yield own
        own.close()


@pytest.fixture
def visit(browser, reports):
    """Opens a page, and at the end says what went wrong in it: requests, errors, warnings."""
    wrong, contexts = [], []

    def go(name, *, width=1200, scheme="light"):
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        )
        page = contexts[-1].new_page()
        here = (reports / name).as_uri()
        page.on("request", lambda asked: None if asked.url.startswith(("data:", here)) else wrong.append(asked.url))
        page.on("requestfailed", lambda asked: wrong.append(asked.url[:100]))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(here, wait_until="load")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["videos.html", "table.html"])
def test_every_picture_and_every_video_decodes(visit, name, scheme):
    page = visit(name, scheme=scheme)
    pictures = page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth, () => 0)))"
    )
    assert pictures
    assert all(width > 100 for width in pictures)
    videos = page.evaluate(
        """Promise.all([...document.querySelectorAll('video')].map(video => new Promise(done => {
            video.onerror = () => done([0, 0]);
            video.onended = () => done([video.videoWidth, video.currentTime]);
            video.loop = false; video.playbackRate = 8; video.play().catch(() => done([0, 0]));
        })))"""
    )
    assert (len(videos) >= 2) == (name == "videos.html")
    assert all(width > 100 and seconds > 0 for width, seconds in videos)


@pytest.mark.parametrize("name", ["videos.html", "table.html", "study.html"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(visit, name, width):
    page = visit(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, getComputedStyle(e).overflowX])"
    )
    assert boxes
    assert all(box <= width and overflow == "auto" for box, overflow in boxes)


def test_tables_equal_what_compare_prints(visit, reports):
    found = json.loads(rltrain("compare", reports / "ppo", reports / "a2c", "--json"))
    page = visit("videos.html")
    rows = page.evaluate(
        """[...document.querySelectorAll('#table-figures-0 tbody tr')].map(row => [row.cells[0].textContent,
            ...[...row.cells].slice(2, 6).map(c => [c.dataset.value, c.dataset.low, c.dataset.high])])"""
    )
    expected = [
        [row["method"], row["mean"], row["iqm"], {"value": row["median"], "low": None, "high": None}, row["area"]]
        for row in found["tables"][0]["rows"]
    ]
    numbers = [
        [name, *({key: None if text is None else float(text) for key, text in zip(("value", "low", "high"), cell, strict=True)} for cell in cells)]
        for name, *cells in rows
    ]  # fmt: skip
    assert numbers == expected
    assert found["verdict"] in page.inner_text("main")


def test_figures_of_a_study_are_drawn_in_the_pages_colours_and_the_widest_scrolls_on_a_phone(visit):
    page = visit("study.html", width=360, scheme="dark")
    assert page.evaluate("[...document.querySelectorAll('figure > svg, .across > svg')].length") == 5 + 5
    wide = page.evaluate("(e => [e.clientWidth, e.scrollWidth])(document.querySelector('.across'))")
    assert wide[0] <= 360 < wide[1]
    fills = "[...document.querySelectorAll('main figure svg text')].map(e => getComputedStyle(e).fill)"
    assert "rgb(0, 0, 0)" not in page.evaluate(fills)


@pytest.mark.parametrize("name", ["videos.html", "table.html", "study.html"])
def test_text_is_readable_in_light_and_dark(visit, name):
    """Contrast (WCAG 2.2, 1.4.3) of all text, in figures too, is at least 4.5 to 1 against the page."""
    script = """() => {
        const rgb = text => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
        const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } };
        const out = [];
        for (const e of document.querySelectorAll('p, th, td, h1, h2, h3, a, li, figcaption, summary, span, svg text, svg tspan')) {
            if (!e.textContent.trim()) continue;
            const style = getComputedStyle(e), ink = rgb(e.closest('svg') ? style.fill : style.color);
            const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
            if ((a + .05) / (b + .05) < 4.5) out.push([e.tagName, e.textContent.slice(0, 40), ink]);
        }
        return out; }"""
    for scheme in ("light", "dark"):
        assert visit(name, scheme=scheme).evaluate(script) == []


def test_a_printed_page_is_light_and_shows_what_is_folded(visit):
    page = visit("videos.html", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('details pre').getBoundingClientRect().height") > 100
    assert page.evaluate("getComputedStyle(document.querySelector('video')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")

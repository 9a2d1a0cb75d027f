"""`rltrain compare` as a user meets it."""

import json
import subprocess
import sys
import warnings

import pytest

from rltrain.cli.main import main
from rltrain.comparison.compare import compare
from rltrain.comparison.methods import open_methods
from runs import make_group

CODE = """
import sys
from rltrain.cli.main import main
try:
    main()
finally:
    heavy = [name for name in ("torch", "matplotlib", "scipy.stats", "numba") if name in sys.modules]
    print(f"loaded {heavy}", file=sys.stderr)
"""


def rltrain(*arguments):
    command = [sys.executable, "-c", CODE, "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    make_group(folder / "dqn", [500, 480, 470, 495, 490])
    make_group(folder / "[ppo]", [300, 420, 250, 380, 310, 400], agent={"name": "ppo"})  # not markup
    (folder / "empty").mkdir()
    return folder


def test_it_prints_what_is_unfair_then_figures_then_the_verdict_and_loads_nothing_heavy(groups):
    done = rltrain(groups / "dqn", groups / "[ppo]")
    assert done.returncode == 0
    assert done.stderr.strip() == "loaded []"
    found = compare(open_methods([groups / "dqn", groups / "[ppo]"]))
    parts = [
        "Is it fair?", "! numbers of seeds differ: dqn 5, [ppo] 6", "CartPole-v1, 100 steps: eval/return",
        "487 [472, 502]", "100 (4 of 5)", "Pairs", "dqn / [ppo]", f"{found.pairs[0].effect_size:+.2f}",
        "Performance profile", "Settings that differ", "agent.name", "Verdict", "dqn is better than [ppo]: P = 1.00",
    ]  # fmt: skip
    places = [done.stdout.find(part) for part in parts]
    assert -1 not in places, (parts[places.index(-1)], done.stdout)
    assert places == sorted(places)


def in_process(monkeypatch, *arguments):
    """Exit code."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main() sets it
    monkeypatch.setattr(sys, "argv", ["rltrain", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_json_is_the_comparison_and_nothing_else(groups, monkeypatch, capsys):
    assert in_process(monkeypatch, groups / "dqn", groups / "[ppo]", "--threshold", 400, "--json") == 0
    expected = compare(open_methods([groups / "dqn", groups / "[ppo]"]), threshold=400.0)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected.to_dict()))


@pytest.mark.parametrize(
    ("names", "options", "code", "message"),
    [
        (["dqn", "empty"], [], 66, "no run in this folder"),
        (["dqn", "[ppo]"], ["--metric", "eval/retrun"], 2, "--metric eval/retrun: never logged by dqn, did you mean 'eval/return'?"),
        (["dqn"], [], 2, "compare needs two methods or more"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_an_exit_code(groups, monkeypatch, capsys, names, options, code, message):
    assert in_process(monkeypatch, *(groups / name for name in names), *options) == code
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert message in err
    assert out == ""

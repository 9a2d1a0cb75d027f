"""The command line as a user meets it, in a process of its own."""

import json
import os
import subprocess
import sys

import av
import pytest
from conftest import ROOT
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rltrain.cli.list_ import list_
from rltrain.cli.schema import schema
from rltrain.rundir import CannotCreate

RLTRAIN = [sys.executable, "-m", "rltrain"]
CONTRACT = {
    "run", "checkpoint_step", "env", "agent", "episodes", "seed", "return_mean", "return_std", "return_ci95",
    "return_min", "return_max", "return_iqm", "length_mean", "success_rate", "success_definition",
    "capped_episodes", "random_return_mean",
}  # fmt: skip


def rltrain(*arguments, code=0, cwd=None):
    done = subprocess.run(
        [*RLTRAIN, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=cwd, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from conftest import SMALL

    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(SMALL)
    done = rltrain("train", folder / "small.yaml", "seed=7", "--run-dir", folder / "run")
    assert "finished at step 1,500" in done.stdout
    assert ", success rate " in done.stdout
    assert ", mean length " in done.stdout
    assert f"tensorboard --logdir {folder / 'run'}\n" in done.stdout
    return folder / "run"


def test_a_run_leaves_everything_that_was_promised(run):
    assert {path.name.split(".vm")[0][:19] for path in run.iterdir()} >= {
        "config.yaml", "metrics.jsonl", "summary.json", "sittings.json", "checkpoints", "events.out.tfevents"
    }  # fmt: skip
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    assert set(reader.Tags()["scalars"]) >= {
        "rollout/return", "rollout/length", "rollout/success_rate", "eval/return", "train/loss", "train/q_value",
        "train/td_error", "exploration/epsilon", "time/steps_per_second",
    }  # fmt: skip
    assert reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    steps = [event.step for event in reader.Scalars("train/loss")]
    assert steps == list(range(100, 1501, 100))
    (sitting,) = json.loads((run / "sittings.json").read_text())["sittings"]
    assert sitting["command"].startswith("rltrain train ")


def test_help_names_the_command_however_it_was_begun():
    told = rltrain("train", "--help").stdout
    assert "Usage: rltrain train [OPTIONS]" in told
    assert "train.total_steps=N" in told


def test_eval_prints_the_contract_and_the_same_digits_twice(run):
    first = json.loads(rltrain("eval", run, "--episodes", 10, "--json").stdout)
    assert first.keys() >= CONTRACT
    assert first == json.loads(rltrain("eval", run, "--episodes", 10, "--json").stdout)
    assert first != json.loads(rltrain("eval", run, "--episodes", 10, "--seed", 1, "--json").stdout)
    assert first["return_ci95"][0] <= first["return_mean"] <= first["return_ci95"][1]
    best = json.loads(rltrain("eval", run, "--episodes", 5, "--checkpoint", "best", "--json").stdout)
    assert best["checkpoint_step"] <= first["checkpoint_step"] == 1500
    text = rltrain("eval", run, "--episodes", 10).stdout
    assert text.startswith(f"{run}, checkpoint of step 1,500\ndqn on CartPole-v1, 10 greedy episodes (seed 0, ")
    assert f"{first['return_mean']:.2f}" in text
    assert "1 greedy episode (seed" in rltrain("eval", run, "--episodes", 1).stdout
    assert "random policy" in text
    rltrain("eval", run, "--checkpoint", "77", code=66)
    rltrain("eval", run.parent / "none", code=66)


def test_eval_opens_a_checkpoint_folder_too(run):
    path = sorted((run / "checkpoints").iterdir())[-1]
    assert json.loads(rltrain("eval", path, "--episodes", 3, "--json").stdout)["checkpoint_step"] == 1500


def test_videos_and_pictures_open_again(run, tmp_path):
    length = int(rltrain("render", run, "--out", tmp_path / "x.mp4").stdout.split("return ")[1].split(",")[0])
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert float(stream.average_rate) == 50
    assert len(frames) == length + 1 + 35  # every state, and the last one for 0.7 s more
    assert frames[0].shape == (428, 600, 3)
    rltrain("render", run, "--format", "gif", "--out", tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames > 1
        assert gif.size == (600, 428)
    rltrain("render", run, "--format", "png", "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as png:
        assert png.size == (1816, 864)  # eight pixels between pictures
    assert "it offers human, rgb_array" in rltrain("render", run, "--format", "ansi", code=2).stderr


def test_frozen_lake_is_played_in_the_terminal(small_config, tmp_path):
    small_config.write_text(small_config.read_text().replace("CartPole-v1", "FrozenLake-v1"))
    rltrain("train", small_config, "train.total_steps=300", "--run-dir", tmp_path / "run", "--quiet")
    text = rltrain("render", tmp_path / "run", "--format", "ansi").stdout
    assert "FFF" in text
    assert "step 1" in text


def test_json_is_alone_on_stdout(small_config, tmp_path):
    done = rltrain("train", small_config, "train.total_steps=200", "--run-dir", tmp_path / "r", "--json")
    summary = json.loads(done.stdout)
    assert (summary["status"], summary["steps"], summary["seed"]) == ("finished", 200, 3)
    assert rltrain("train", small_config, "train.total_steps=200", "--run-dir", tmp_path / "q", "--quiet").stdout == ""


def test_mistakes_exit_with_2_and_say_where(small_config, tmp_path):
    text = small_config.read_text()
    small_config.write_text(text.replace("gamma", "gama").replace("seed: 3", "sed: 3"))
    done = rltrain("train", small_config, "--run-dir", tmp_path / "run", code=2)
    assert f"{small_config}:9: sed: unknown key, did you mean 'seed'?" in done.stderr
    assert not (tmp_path / "run").exists()
    rltrain("train", code=2)
    rltrain("train", tmp_path / "none.yaml", code=2)
    rltrain("list", "nothing", code=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.id=CartPole-v2", "env.id"),
        ("env.id=CartPol-v1", "did you mean 'CartPole-v1'?"),
        ("env.id=Taxi-v3", "v4"),
        ("env.id=os:system", "--plugin"),
        ("env.kwargs={nonsense: 1}", "env.kwargs: CartPole-v1 cannot be made"),
        ("env.wrappers=[{name: discretize}]", "finite bounds"),
        ("env.id=Pendulum-v1", "dqn needs Discrete actions"),
        ("env.id=Blackjack-v1", "wrapper flatten"),
        ("agent.learning_starts=5000", "leave nothing of 1,500 total steps"),
        ("agent.buffer_size=100000000000", "GiB"),
        ("exploration=null", "needs an exploration"),
        ("bonuses=[{name: count}]", "count needs Discrete observations"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(small_config, override, message):
    done = rltrain("check", small_config, override, code=2)
    assert message in done.stderr
    assert override in done.stderr or str(small_config) in done.stderr


def test_a_failed_start_leaves_no_folder_and_a_full_one_is_not_touched(small_config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    assert "--resume" in rltrain("train", small_config, "--run-dir", tmp_path / "run", code=73).stderr
    (tmp_path / "file").write_text("x")
    rltrain("train", small_config, "--run-dir", tmp_path / "file" / "run", code=73)


def test_plugins_bring_environments_and_explorations(small_config, tmp_path):
    (tmp_path / "mine.py").write_text('''
import gymnasium as gym
import numpy as np
from rltrain.registry import register
from rltrain.settings import Settings

class Corridor(gym.Env):
    """Walk right to the end."""
    observation_space, action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return 0, {}
    def step(self, action):
        print("what an environment prints is not part of the answer")
        self.place = max(0, self.place + (1 if action else -1))
        return self.place, float(self.place == 4), self.place == 4, False, {}

gym.register("Corridor-v0", Corridor, max_episode_steps=50)

@register("explorations")
class AlwaysRight:
    """Always the last action."""
    class Config(Settings):
        """No settings."""
    kind = "selector"
    def __init__(self, config): pass
    def select(self, values, step, rng): return np.full(len(values.mean), values.mean.shape[1] - 1)
    def metrics(self, step): return {}
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
''')
    own = ("env.id=Corridor-v0", "exploration={name: always_right}", "train.total_steps=400")
    done = rltrain("check", small_config, *own, code=2, cwd=tmp_path)
    assert "--plugin" in done.stderr
    assert "unknown" in done.stderr
    rltrain("train", small_config, *own, "--plugin", "mine", "--run-dir", "run", "--quiet", cwd=tmp_path)
    report = json.loads(rltrain("eval", "run", "--plugin", "mine", "--json", cwd=tmp_path).stdout)
    assert report["return_mean"] == 1.0
    assert report["length_mean"] == 4.0
    assert "always_right" in rltrain("list", "explorations", "--plugin", "mine", cwd=tmp_path).stdout
    rltrain("eval", "run", code=2, cwd=tmp_path)
    rltrain("check", small_config, "--plugin", "no_such_module", code=2)


def test_show_prints_every_default_and_loads_back(run, tmp_path):
    text = rltrain("show", run).stdout
    assert "adam_eps: 1e-08" in text
    (tmp_path / "again.yaml").write_text(text)
    assert rltrain("show", tmp_path / "again.yaml").stdout == text
    assert json.loads(rltrain("show", run, "--json").stdout)["seed"] == 7


def test_the_shipped_schema_is_the_current_one():
    assert rltrain("schema").stdout == (ROOT / "configs" / "schema.json").read_text()


@pytest.mark.parametrize("verb", [["--help"], ["--version"], ["train", "--help"]])
def test_help_imports_nothing_heavy(verb):
    code = (
        "import sys\ntry:\n    from rltrain.cli.main import main; main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'gymnasium', 'numpy', 'tensorboard', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *verb], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_does_not_import_torch(small_config):
    code = (
        "import sys\ntry:\n    from rltrain.cli.main import main; main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "check", small_config], capture_output=True, text=True)
    assert "ok (dqn on CartPole-v1)" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_twenty_starts_at_once_get_twenty_folders(small_config, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from rltrain.rundir import create_run

    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: create_run(tmp_path, "x", 0), range(20)))
    assert len(set(folders)) == 20
    for name in ("../x", "/abs", "a/../../b", "x" * 300, "\u2215", ".", ""):
        assert create_run(tmp_path / "root", name, 0).resolve().is_relative_to(tmp_path / "root")


def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_one_line_and_harms_no_earlier_one(small_config, tmp_path):
    """The file size limit stands for a full disk: it stops the growing checkpoints, not the small files."""
    import resource

    from rltrain import checkpoint

    folder = tmp_path / "run"
    done = subprocess.run(
        [*RLTRAIN, "train", str(small_config), "agent.buffer_size=5000", "train.total_steps=4000", "--run-dir", folder],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("failed", "OSError: [Errno 27] File too large")
    kept = checkpoint.newest(folder / "checkpoints", on_corrupt=lambda path, why: pytest.fail(why))
    assert kept is not None
    assert kept.step >= 250


def test_a_schema_that_cannot_be_written_is_refused_by_its_name(tmp_path):
    with pytest.raises(CannotCreate, match=r"s\.json: cannot be written: there is no folder .*none$"):
        schema(tmp_path / "none" / "s.json")
    schema(tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text() == (ROOT / "configs" / "schema.json").read_text()


@pytest.mark.parametrize("seeds", [(), ("--seeds", "0-1")])
def test_training_goes_on_when_nobody_reads_what_it_prints(seeds, tmp_path):
    config = ROOT / "configs" / "q_learning_frozenlake_4x4.yaml"
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -1` does after a line
    done = subprocess.run(
        [
            *RLTRAIN,
            "train",
            config,
            "train.total_steps=2_000",
            "train.compile=off",
            *seeds,
            "--run-dir",
            tmp_path / "run",
        ],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


@pytest.fixture(scope="module")
def tabular_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tabular")
    config = ROOT / "configs" / "q_learning_frozenlake_4x4.yaml"
    done = rltrain("train", config, "train.total_steps=200_000", "eval.every=50_000", "--run-dir", folder / "run")
    assert "q_learning on FrozenLake-v1" in done.stdout
    return folder / "run"


def test_a_table_is_valued_exactly_beside_the_sampled_figures(tabular_run):
    report = json.loads(rltrain("eval", tabular_run, "--json").stdout)
    assert report.keys() >= CONTRACT | {
        "exact_return", "optimal_return", "percent_of_optimal", "regret", "optimal_action_share", "value_error",
        "time_aware_return",
    }  # fmt: skip
    assert abs(report["optimal_return"] - 0.740165) < 1e-6
    assert abs(report["time_aware_return"] - 0.744190) < 1e-6
    assert abs(report["exact_return"] + report["regret"] - report["optimal_return"]) < 1e-12
    assert abs(report["return_mean"] - report["exact_return"]) < 0.2
    text = rltrain("eval", tabular_run).stdout
    assert "exact return" in text
    assert "0.744190 for a policy that sees the clock" in text


def test_tensorboard_shows_how_far_a_table_is_from_the_optimum(tabular_run):
    reader = EventAccumulator(str(tabular_run), size_guidance={"scalars": 0})
    reader.Reload()
    assert set(reader.Tags()["scalars"]) >= {
        "eval/exact_return", "eval/percent_of_optimal", "eval/optimal_action_share", "eval/value_error",
        "exploration/state_coverage", "exploration/epsilon", "train/q_value",
    }  # fmt: skip
    errors = [event.value for event in reader.Scalars("eval/value_error")]
    assert len(errors) == 4
    assert errors[-1] < errors[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exploration={name: ucb}"], "ucb needs the visits of every action, which dqn does not keep"),
        (["agent={name: q_learning}"], "add the wrapper discretize"),
        (["agent={name: value_iteration}", "exploration=null"], "value_iteration needs Discrete observations"),
    ],
)
def test_a_pair_that_makes_no_sense_is_refused_with_the_reason(overrides, message):
    done = rltrain("check", ROOT / "configs" / "dqn_cartpole.yaml", *overrides, code=2)
    assert message in done.stderr


def test_what_a_configuration_is_for_is_listed_as_a_whole_sentence(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    list_("configs")
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert [text for text in told.values() if text[-1] not in ".?" or "rltrain train" in text] == []
    assert told["configs/dqn_lunarlander.yaml"] == "Deep Q-network lands on the moon."
    assert told["configs/dqn_mountaincar.yaml"].endswith(
        "a learning rate that falls, so that the last policy no longer swings."
    )
    monkeypatch.setattr("rltrain.cli.tables.terminal_width", lambda: 120)
    list_("configs")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120 < max(map(len, told.values())) + 4
    assert " ".join(line[lines[0].index("Advantage") :].strip() for line in lines) == " ".join(told.values())

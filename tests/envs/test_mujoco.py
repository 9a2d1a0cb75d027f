"""MuJoCo and Box2D: what is said where they, or what MuJoCo draws with, are not there; and MuJoCo's warnings."""

import sys
import types
import warnings

import numpy as np
import pytest

from rltrain.cli.main import main
from rltrain.config.load import dump, from_dict
from rltrain.core import ConfigError
from rltrain.envs import mujoco, own
from rltrain.envs.vector import begin, make_env, make_vector
from rltrain.experiment import Run
from rltrain.fitting import problems
from rltrain.pictures.recording import prepare_headless

CHEETAH = "HalfCheetah-v5"


def config(env_id=CHEETAH, **env):
    return from_dict(
        {
            "env": {"id": env_id, **env},
            "agent": {"name": "ppo", "n_steps": 8, "batch_size": 8},
            "train": {"total_steps": 8},
            "device": "cpu",
        }
    ).config


@pytest.mark.parametrize(
    ("env_id", "extra"), [(CHEETAH, "mujoco"), ("Hopper-v4", "mujoco"), ("LunarLander-v3", "box2d")]
)
def test_a_missing_package_names_the_extra(monkeypatch, env_id, extra):
    monkeypatch.setattr(own.util, "find_spec", lambda name: None)
    (found,) = problems(config(env_id))
    assert found.path == "env.id"
    assert found.message == f"{env_id} is not installed: pip install 'rltrain[{extra}]'"


def test_a_library_that_keeps_mujoco_from_loading_is_named(monkeypatch):
    def broken(module):
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setattr(own.util, "find_spec", lambda name: name)
    monkeypatch.setattr(mujoco, "import_module", broken)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    (found,) = problems(config())
    assert "MUJOCO_GL=osmesa" in found.message
    assert "use egl" in found.message
    monkeypatch.delenv("MUJOCO_GL")
    (found,) = problems(config())
    assert "MUJOCO_GL" not in found.message
    assert "glGetError" in found.message


@pytest.fixture
def headless(monkeypatch):
    """No display, and an environment that MuJoCo draws."""
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")  # to be as it was afterwards
    return types.SimpleNamespace(unwrapped=types.SimpleNamespace(mujoco_renderer=None))


def test_what_needs_a_display_is_refused_where_there_is_none(headless, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ConfigError, match="MUJOCO_GL=glfw: needs a display, and there is none: use egl or osmesa"):
        prepare_headless(headless)
    monkeypatch.setenv("DISPLAY", ":0")
    assert prepare_headless(headless) is None
    monkeypatch.delenv("DISPLAY")
    other = types.SimpleNamespace(unwrapped=None)
    assert prepare_headless(other) == "no display: drawing off-screen"


def test_a_library_that_cannot_draw_is_named(headless, monkeypatch):
    def broken(width, height):
        raise ImportError("Cannot initialize a EGL device display.\nMore of it")

    monkeypatch.setattr(mujoco, "import_module", lambda name: types.SimpleNamespace(GLContext=broken))
    with pytest.raises(ConfigError, match=r"^MUJOCO_GL=egl: .* use osmesa: Cannot initialize a EGL device display\.$"):
        prepare_headless(headless)


def test_mujoco_is_not_loaded_for_other_environments(monkeypatch):
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    make_vector(config("CartPole-v1").env, 1).close()
    assert "mujoco" not in sys.modules


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_warnings_reach_the_user_deprecations_do_not_and_no_file_is_left(tmp_path, monkeypatch, capfd, vectorization):
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as outside of tests
        warnings.simplefilter("always", RuntimeWarning)
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: print(message, file=sys.stderr, flush=True))
        envs = make_vector(config(num_envs=2, vectorization=vectorization).env)
        begin(envs, [0, 1])
        assert capfd.readouterr().err == ""
        envs.step(np.full((2, 6), np.nan, np.float32))
        envs.close()
    printed = capfd.readouterr()
    assert "MuJoCo: Nan, Inf or huge value in CTRL at ACTUATOR 0" in printed.err
    assert "WARNING" not in printed.out + printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_warning_that_is_made_an_error_does_not_end_the_process(capfd):
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_env(config().env).close()
    assert "settotalmass" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["render", "report"])
def test_no_verb_draws_with_what_needs_a_display(headless, monkeypatch, tmp_path, capsys, verb):
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    monkeypatch.chdir(tmp_path)
    made = config(max_episode_steps=2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump(made))
    run = Run(made, tmp_path / "run")
    run.train()
    run.close()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(sys, "argv", ["rltrain", verb, "run"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "MUJOCO_GL=glfw: needs a display" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()

"""MiniGrid: what its images are, what is refused, and that an agent sees them and goes on exactly."""

import sys

import numpy as np
import pytest
from test_contracts import canonical

from rltrain.config.load import from_dict, to_dict
from rltrain.core import ConfigError
from rltrain.envs import own
from rltrain.envs.vector import begin, make_vector
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.registry import find, settings_class

ROOM = "MiniGrid-DoorKey-5x5-v0"


def config(env_id=ROOM, num_envs=1, **wrapper):
    return from_dict(
        {
            "env": {"id": env_id, "num_envs": num_envs, "wrappers": [{"name": "minigrid_image", **wrapper}]},
            "agent": {"name": "ppo", "hidden_sizes": [8], "n_steps": 8, "batch_size": 8},
            "train": {"total_steps": 1_000},
            "device": "cpu",
        }
    ).config


@pytest.mark.parametrize(
    ("wrapper", "shape"),
    [({}, (7, 7, 3)), ({"whole": True}, (5, 5, 3)), ({"tile_size": 3}, (21, 21, 3)), ({"tile_size": 4, "whole": True}, (20, 20, 3))],
)  # fmt: skip
def test_an_image_is_the_cells_times_25_or_what_minigrid_draws(wrapper, shape):
    minigrid = pytest.importorskip("minigrid.wrappers", reason="MiniGrid is not installed")
    envs = make_vector(config(num_envs=2, **wrapper).env)
    assert envs.single_observation_space.shape == shape
    begin(envs, [3, 4])
    for action in (0, 2, 1, 3, 5, 2):
        obs, *_ = envs.step(np.array([action, 0]))
        assert envs.observation_space.contains(np.asarray(obs))
        bare = envs.envs[0].unwrapped
        if "tile_size" in wrapper:
            whole, size = wrapper.get("whole", False), wrapper["tile_size"]
            expected = bare.get_frame(highlight=bare.highlight and whole, tile_size=size, agent_pov=not whole)
        elif wrapper:
            expected = 25 * minigrid.FullyObsWrapper(bare).observation(bare.gen_obs())["image"].astype(int)
        else:
            expected = 25 * bare.gen_obs()["image"].astype(int)
            assert expected.max() == 125  # a key is object 5
        np.testing.assert_array_equal(obs[0], expected)


def test_other_environments_are_refused_and_a_missing_package_names_the_extra(monkeypatch):
    (found,) = problems(config("CartPole-v1"))
    assert found.path == "env.wrappers"
    assert "for MiniGrid alone" in found.message
    monkeypatch.setattr(own.util, "find_spec", lambda name: None)
    for env_id in ("MiniGrid-Nowhere-v0", "BabyAI-Nowhere-v0"):
        with pytest.raises(ConfigError, match=r"pip install 'rltrain\[minigrid\]'"):
            own.prepare(env_id)
        (found,) = problems(config(env_id))
        assert found.path == "env.id"
    monkeypatch.setitem(sys.modules, "minigrid", None)
    wrapper = find("wrappers", "minigrid_image")(settings_class("wrappers", "minigrid_image")(name="minigrid_image"))
    with pytest.raises(ValueError, match=r"pip install 'rltrain\[minigrid\]'"):
        wrapper.wrap(None)


@pytest.mark.parametrize("env_id", [ROOM, "BabyAI-GoToObj-v0"])
def test_without_an_image_the_wrapper_that_makes_one_is_named(env_id):
    pytest.importorskip("minigrid", reason="MiniGrid is not installed")
    data = to_dict(config(env_id))
    (found,) = problems(from_dict(data | {"env": {"id": env_id}}).config)
    assert found.message.endswith("MissionSpace): add the wrapper minigrid_image")
    (found,) = problems(from_dict(data | {"env": {"id": env_id, "wrappers": [{"name": "flatten"}]}}).config)
    assert found.path == "env.wrappers"
    assert found.message.startswith("flatten makes no vector of Dict(")
    assert found.message.endswith("use minigrid_image instead")


@pytest.mark.parametrize("wrapper", [{}, {"tile_size": 1}])
def test_a_run_goes_on_exactly_from_the_middle_of_its_episodes(wrapper):
    pytest.importorskip("minigrid", reason="MiniGrid is not installed")
    made = config(num_envs=2, **wrapper)
    assert problems(made) == []
    first, second = build(made), build(made)
    first.loop.advance(60)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for run in (first, second):
        run.loop.advance(40)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())
    assert canonical(second.loop.state_dict()) == canonical(first.loop.state_dict())

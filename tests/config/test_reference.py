"""What `rltrain explain` says: of everything, with a meaning for every setting."""

import json

import pytest
from typer.testing import CliRunner

from rltrain.cli.main import app
from rltrain.config.reference import part, parts
from rltrain.core import ConfigError
from rltrain.registry import UnknownComponent


@pytest.mark.parametrize("name", parts())
def test_everything_that_can_be_set_is_explained(name):
    found = part(name)
    assert found.about
    assert [setting.path for setting in found.settings if not setting.meaning or not setting.takes] == []


def test_defaults_bounds_choices_and_blocks_are_told_as_one_writes_them():
    settings = {setting.path: setting for setting in part("dqn").settings}
    assert settings["learning_rate"][1:3] == ("a number or a schedule", "0.0001")
    assert settings["gamma"][1:3] == ("a number, 0 to 1", "0.99")
    assert settings["loss"][1:3] == ("huber | mse", "huber")
    assert settings["hidden_sizes"][1:3] == ("a list of whole numbers, each at least 1", "[64, 64]")
    assert settings["visits.bits"].takes == "a whole number, 1 to 62"
    assert settings["prioritized.beta"].default == "0.4"
    assert "a `beta` that stays at 0.4" in settings["prioritized"].meaning
    assert "name" not in settings
    assert next(setting for setting in part("train").settings if setting.path == "total_steps").default == ""
    assert "stop.return" in {setting.path for setting in part("train").settings}


def test_the_command_prints_equations_settings_and_json_and_names_the_nearest():
    shown = CliRunner().invoke(app, ["explain", "epsilon_greedy"]).output
    assert "argmax_a Q(s, a)" in shown
    assert "epsilon: {end: 0.05, schedule: linear, start: 1.0, steps: 10000}" in shown
    data = json.loads(CliRunner().invoke(app, ["explain", "ppo", "--json"]).output)
    assert data["kind"] == "agents"
    assert "clip_range" in {setting["path"] for setting in data["settings"]}
    with pytest.raises(UnknownComponent, match="did you mean 'epsilon_greedy'"):
        part("epsilon_gredy")
    with pytest.raises(ConfigError, match="of a file: rltrain show"):
        CliRunner().invoke(app, ["explain", "my.yaml"], catch_exceptions=False)

"""A configuration is read exactly as written, or refused with file, line and what would be right."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.config.load import dump, from_dict, load, parse, to_dict
from rltrain.config.reader import read, read_value
from rltrain.core import ConfigError, Problem

GOOD = """\
env: {id: CartPole-v1}
agent:
  name: dqn
  gamma: 0.9
  hidden_sizes: [64, 64]
exploration: {name: epsilon_greedy, epsilon: 0.1}
train: {total_steps: 1e5}
"""


def messages(text, overrides=()):
    with pytest.raises(ConfigError) as caught:
        parse(text, source="x.yaml", overrides=overrides)
    return list(caught.value.messages)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("3e-4", 0.0003), ("1e3", 1000.0), ("5.0e5", 5e5), ("1e+3", 1000.0), ("-1e-3", -0.001),
        ("1E5", 1e5), (".5", 0.5), ("1.", 1.0), ("0", 0), ("-7", -7), ("+7", 7), ("50_000", 50_000),
        ("1_0.5", 10.5), ("0.0", 0.0), ("true", True), ("false", False), ("True", True), ("null", None), ("~", None),
        ("", None), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("NO", "NO"), ("1:30", "1:30"),
        ("12:30:45", "12:30:45"), ("2024-01-01", "2024-01-01"), ("0x10", "0x10"), ("'1e-3'", "1e-3"),
        ('"true"', "true"), ("e5", "e5"), ("1_", "1_"), ("_1", "_1"), (".", "."), ("-", [None]), ("1e", "1e"),
        ("[1, 2e0]", [1, 2.0]), ("{a: 1}", {"a": 1}), ("CartPole-v1", "CartPole-v1"), ("=", "="),
    ],
)  # fmt: skip
def test_literals_are_read_as_people_mean_them(text, value):
    found = read_value(text, "x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["017", "08", ".nan", ".inf", "-.inf", "nan", "inf", "1e999", "1" * 5000, "!!python/name:os.system ''", "!x 1"],
)
def test_literals_that_mean_something_else_elsewhere_are_refused(text):
    with pytest.raises(ConfigError):
        read(f"a: {text}\n", "x.yaml")


def test_all_mistakes_are_reported_at_once_with_their_lines():
    text = """\
env: {id: CartPole-v1, num_envs: true}
agent:
  name: dqn
  lerning_rate: 3
  gamma: 1.5
  hidden_sizes: [64, a]
  batch_size: 1.5
exploration: {name: epsilon_gredy}
train: {total_steps: "100"}
sed: 1
"""
    assert messages(text) == [
        "x.yaml:1: env.num_envs: expected a whole number, got true",
        "x.yaml:4: agent.lerning_rate: unknown key, did you mean 'learning_rate'?",
        "x.yaml:5: agent.gamma: must be at most 1, got 1.5",
        "x.yaml:6: agent.hidden_sizes: expected a whole number, got 'a'",
        "x.yaml:7: agent.batch_size: expected a whole number, got 1.5",
        "x.yaml:8: exploration.name: unknown 'epsilon_gredy', did you mean 'epsilon_greedy'? (known: boltzmann, epsilon_greedy, epsilon_z_greedy, gaussian_noise, greedy, max_boltzmann, ou_noise, thompson, ucb)",
        "x.yaml:9: train.total_steps: expected a whole number, got '100'",
        "x.yaml:10: sed: unknown key, did you mean 'seed'?",
    ]


def test_a_missing_key_and_a_missing_name_are_named():
    assert messages("env: {id: CartPole-v1}\nagent: {gamma: 0.9}\n") == [
        "x.yaml:1: train: missing",
        "x.yaml:2: agent: needs a 'name'",
    ]


def test_settings_that_contradict_each_other_are_refused():
    text = GOOD.replace("gamma: 0.9", "batch_size: 64\n  buffer_size: 32")
    assert messages(text) == ["x.yaml:2: agent: batch_size 64 is larger than buffer_size 32"]


def test_a_schedule_is_checked_inside():
    text = GOOD.replace("epsilon: 0.1", "epsilon: {schedule: linear, start: 1, end: 0, stesp: 5}")
    assert messages(text) == [
        "x.yaml:6: exploration.epsilon.steps: missing",
        "x.yaml:6: exploration.epsilon.stesp: unknown key, did you mean 'steps'?",
    ]
    text = GOOD.replace("epsilon: 0.1", "epsilon: {schedule: linear, start: 2, end: 0, steps: 5}")
    assert messages(text) == ["x.yaml:6: exploration.epsilon: epsilon is a probability, within 0 and 1, not 0 to 2"]


@pytest.mark.parametrize(
    ("value", "shown"), [("abc", "'abc'"), ("true", "true"), ("null", "null"), ("[1, 2]", "a list of 2")]
)
def test_what_is_neither_a_number_nor_a_schedule_is_told_that_it_may_be_both(value, shown):
    (message,) = messages(GOOD, [f"agent.learning_rate={value}"])
    assert ": agent.learning_rate: expected a number or a schedule, such as {schedule: linear, start:" in message
    assert message.endswith(f", got {shown}")
    (message,) = messages(GOOD, [f"agent.prioritized={{beta: {value}}}"])
    assert ": agent.prioritized.beta: expected a number or a schedule, such as" in message


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("agent.prioritized=true", "got true: {} takes the default settings"),
        ("agent.munchausen=on", "got 'on': {} takes the default settings"),
        ("agent.munchausen=off", "got 'off': null is without"),
        ("eval.success=true", "got true"),  # what a success is has to be told
        ("env.atari=false", "got false: null is without"),
        ("eval=off", "got 'off': there is always one at the end, and with eval.every: null no other"),
        ("checkpoint=null", "got null: there is always one at the end, and with checkpoint.every: null no other"),
        ("train.stop=5", "got 5"),
    ],
)
def test_a_switch_in_the_place_of_a_block_is_told_what_it_would_be(override, hint):
    name = override.split("=")[0]
    expected = f"{override} (command line): {name}: expected a block of key: value, {hint}"
    assert messages(GOOD, [override]) == [expected]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("foo", "expected a number or 'auto', got 'foo'"),
        ("true", "expected a number or 'auto', got true"),
        ("null", "expected a number or 'auto', got null"),
        ("auto_0.1", "a temperature learnt from 0.1 on is ent_coef: auto, ent_coef_init: 0.1"),
    ],
)
def test_a_number_or_a_word_is_refused_in_one_line(value, message):
    override = f"agent={{name: sac, ent_coef: {value}}}"
    assert messages(GOOD, [override]) == [f"{override} (command line): agent.ent_coef: {message}"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lerning_rate", "learning_rate"), ("Learning-Rate", "learning_rate"), ("hidden", "hidden_sizes"),
        ("batchsize", "batch_size"), ("buffer", "buffer_size"), ("n_steps", "n_step"), ("max_grad", "max_grad_norm"),
        ("target_update", "target_update_interval"), ("tua", "tau"), ("alpha", None), ("x", None),
    ],
)  # fmt: skip
def test_only_what_is_near_is_taken_for_what_was_meant(key, meant):
    (message,) = messages(GOOD, [f"agent.{key}=1"])
    assert f"agent.{key}: unknown key" in message
    assert (f"did you mean '{meant}'" in message) if meant else ("did you mean" not in message)


def test_a_key_of_another_agent_is_told_to_be_its():
    (message,) = messages(GOOD, ["agent={name: sac, target_update_interval: 100}"])
    assert message.endswith("agent.target_update_interval: unknown key of sac; c51, dqn, iqn, qr_dqn, rainbow have it")
    (message,) = messages(GOOD, ["exploration={name: greedy, epsilon: 0.1}"])
    assert "exploration.epsilon: unknown key of greedy; epsilon_greedy" in message


def test_duplicate_keys_are_refused_with_both_lines():
    assert messages(GOOD + "seed: 1\nseed: 2\n") == ["x.yaml:9: duplicate key 'seed' (first on line 8)"]


def test_overrides_go_through_the_same_loader():
    config = parse(GOOD, source="x", overrides=["agent.gamma=5e-1", "seed=7", "train.stop.return=475"]).config
    assert (config.agent.gamma, config.seed, config.train.stop.return_) == (0.5, 7, 475.0)
    config = parse(GOOD, source="x", overrides=["exploration={name: greedy}"]).config
    assert config.exploration.name == "greedy"
    assert messages(GOOD, ["agent.gama=1"]) == [
        "agent.gama=1 (command line): agent.gama: unknown key, did you mean 'gamma'?"
    ]
    assert messages(GOOD, ["seed=017"])[0].startswith("seed=017 (command line): '017' begins with 0")
    assert "must be at most 1,000,000,000" in messages(GOOD, ["env.max_episode_steps=2_000_000_000"])[0]
    twice = "exploration={name: epsilon_greedy, name: greedy}"
    assert messages(GOOD, [twice]) == [f"{twice} (command line): duplicate key 'name' (first on line 1)"]
    for odd in (
        "seed",
        "=3",
        "[seed=3",
        "agent..gamma=0.5",
        "agent.gamma]=0.5",
        ".seed=3",
        "bonuses[00]={name: count}",
    ):
        assert "expected key=value" in messages(GOOD, [odd])[0]


def test_a_mistake_is_placed_at_the_override_that_was_the_last_to_set_it():
    block, setting = "agent={name: q_learning}", "agent.lerning_rate=0.1"
    (message,) = messages(GOOD, [block, setting])
    assert message.startswith(f"{setting} (command line): agent.lerning_rate: unknown key")
    block = "agent={name: q_learning, gama: 1}"
    (message,) = messages(GOOD, ["agent.gama=2", block])
    assert message.startswith(f"{block} (command line): agent.gama: unknown key")


def test_problems_found_later_are_placed_in_the_file():
    loaded = parse(GOOD, source="x.yaml", overrides=["seed=3"])
    assert loaded.explain([Problem("seed", "odd"), Problem("agent.gamma", "too small"), Problem("agent.tau", "?")]) == [
        "seed=3 (command line): seed: odd",
        "x.yaml:2: agent.tau: ?",
        "x.yaml:4: agent.gamma: too small",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"# only a comment\n", b"- a\n- b\n", b"just text\n", b"a: 1\n---\nb: 2\n", b"a: [1\n", b"a:\tb: c\n",
        b"1: 2\n? [x]\n: 3\n", b"a: \xff\n", b"a: \x00\n", b"a: !!python/object/apply:os.system ['true']\n",
        b"a: &a [*a]\n", b"<<: {a: 1}\n", b"a: " + b"[" * 2000 + b"]" * 2000, b"a: " + b"9" * 5000,
        b"x0: &x0 [1]\n" + b"".join(b"x%d: &x%d [%s]\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 10)) for n in range(1, 20)),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_in_one_line_each(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)  # what grows without bound takes hours, which the timeout of all tests does not give it
    for message in caught.value.messages:
        assert message.startswith(str(path))
        assert "\n" not in message


def test_what_is_not_a_small_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    big = tmp_path / "big"
    big.write_bytes(b"#" * (2 << 20))
    for path in (tmp_path / "fifo", big, tmp_path, tmp_path / "none", "/dev/zero"):
        with pytest.raises(ConfigError):
            load(type(tmp_path)(path))


def test_what_is_dumped_loads_back_equal():
    config = parse(GOOD, source="x", overrides=["env.kwargs={a: '1e-3', b: 'true', c: null, d: 'x: y'}"]).config
    text = dump(config)
    assert parse(text, source="y").config.model_dump() == config.model_dump()
    assert to_dict(from_dict(to_dict(config)).config) == to_dict(config)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_any_text_survives_dumping(value):
    config = from_dict({**to_dict(parse(GOOD, source="x").config), "env": {"id": "A", "kwargs": {"k": value}}}).config
    assert parse(dump(config), source="y").config.env.kwargs["k"] == value


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.sampled_from(list("{}[]:,&*!|>'\"#%@`\t\n 0aé-.=~?")), st.booleans())
def test_a_mutated_file_loads_or_is_refused_and_never_anything_else(place, character, replace):
    text = GOOD[:place] + character + GOOD[place + replace :]
    try:
        parse(text, source="x.yaml")
    except ConfigError as error:
        assert all(message.startswith("x.yaml") for message in error.messages)


def test_loading_imports_neither_torch_nor_gymnasium():
    import subprocess
    import sys

    code = (
        f"import sys; from rltrain.config.load import parse; parse({GOOD!r}, source='x'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

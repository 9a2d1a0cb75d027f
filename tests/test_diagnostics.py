"""What the log says of exploration, worked out by hand and in both loops."""

import math

import gymnasium as gym
import numpy as np
import pytest

from rltrain.callbacks import LogProgress
from rltrain.config.load import from_dict
from rltrain.core import ActionValues, Progress
from rltrain.diagnostics import ROWS, BonusTrend, Diagnostics, Visited, entropy
from rltrain.evaluation import EvalProtocol
from rltrain.experiment import build
from rltrain.kernels.tabular import TabularLoop
from rltrain.registry import find, names, settings_class
from rltrain.selection import Selector


def test_entropy_is_that_of_the_shares_summed_over_the_parts():
    assert entropy(np.array([[3, 1]])) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert entropy(np.array([[5, 0, 0]])) == 0
    assert entropy(np.array([[2, 2, 0], [1, 1, 1]])) == pytest.approx(math.log(2) + math.log(3))
    assert entropy(np.zeros((1, 4), np.int64)) == 0


@pytest.mark.parametrize("name", names("explorations"))
def test_every_selector_counts_its_choices_and_those_of_less_than_the_best_value(name):
    component = find("explorations", name)
    if component.kind != "selector":
        pytest.skip("perturbs continuous actions")
    assert issubclass(component, Selector)
    selector, rng = component(settings_class("explorations", name)(name=name)), np.random.default_rng(0)
    draws = np.random.default_rng(1)
    expected = 0
    for step in range(40):
        q = draws.integers(0, 3, (3, 4)).astype(float)  # with ties
        chosen = selector.select(ActionValues(q, visits=draws.integers(0, 5, (3, 4))), 100 * step, rng)
        expected += sum(q[row].tolist()[action] < max(q[row]) for row, action in enumerate(chosen))
        q[:] = 0.0  # what the agent does with its values afterwards is not seen
    assert selector.choices.take() == (120, expected)
    assert selector.choices.take() == (0, 0)
    assert (expected == 0) == (name == "greedy")


@pytest.mark.parametrize("rows", [7, ROWS + 3])
def test_actions_and_discrete_states_are_counted_one_for_one(rows):
    space = gym.spaces.Discrete(50, start=-5)
    parts = gym.spaces.MultiDiscrete([2, 3], start=[4, -1])
    counts, rng = Diagnostics(space, parts, 2, None), np.random.default_rng(0)
    seen, taken = set(), np.zeros((2, 3), np.int64)
    for _ in range(rows):
        obs, action = rng.integers(-5, 10, 2), rng.integers([4, -1], [6, 2], (2, 2))
        counts.add(obs, action)
        seen |= set(obs.tolist())
        for first, second in action:
            taken[0, first - 4] += 1
            taken[1, second + 1] += 1
        action[:] = 0  # an agent may use its memory again
    progress = Progress(0)
    counts.report(progress)
    assert progress.actions.tolist() == taken.tolist()
    assert progress.metrics["exploration/distinct_states"]() == len(seen)
    again = Diagnostics(space, parts, 2, None)
    again.load_state_dict(counts.state_dict())
    assert again.visited.count() == len(seen)


def test_near_vectors_are_one_state_and_far_ones_are_not_and_other_runs_agree():
    space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    one, other = Visited(space), Visited(space)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    one.add(corners)
    assert one.count() == 8
    one.add(corners * np.float32(0.99999))
    assert one.count() == 8
    other.add(corners[::-1])
    assert np.array_equal(one.seen, other.seen)
    assert not Visited.knows(gym.spaces.Dict({"x": space}))
    assert not Visited.knows(gym.spaces.Box(0, 255, (84, 84), np.uint8))


def test_the_trend_of_a_bonus_is_its_mean_and_the_share_of_the_first():
    trend = BonusTrend()
    assert trend(10, 0.0) == {"exploration/bonus_mean": 0.0}
    assert trend(20, 5.0) == {"exploration/bonus_mean": 0.5, "exploration/bonus_decay": 1.0}
    again = BonusTrend()
    again.load_state_dict(trend.state_dict())
    assert again(40, 7.5) == {"exploration/bonus_mean": 0.125, "exploration/bonus_decay": 0.25}


class Kept:
    """A log that keeps its entries."""

    def __init__(self):
        self.entries = []

    def log(self, step, metrics):
        self.entries.append((step, {name: value for name, value in metrics.items() if "time" not in name}))


def test_an_entry_is_about_what_came_since_the_last_and_goes_on_from_a_saved_state():
    logs = Kept(), Kept()
    first, second = (LogProgress(100, log, EvalProtocol(9)) for log in logs)
    parts = [
        Progress(60, choices=60, exploratory=30, actions=np.array([[60, 0]]), bonus=6.0),
        Progress(100, choices=41, exploratory=0, actions=np.array([[0, 40]]), bonus=10.0),
        Progress(160, choices=50, exploratory=25, actions=np.array([[60, 0]]), bonus=12.0),
        Progress(200, choices=50, exploratory=0, actions=np.array([[40, 0]]), bonus=12.5),
    ]
    for part in parts[:3]:
        first(part)
    second.load_state_dict(first.state_dict())
    assert second.state_dict()["actions"].tolist() == [[60, 0]]
    first(parts[3])
    second(parts[3])
    (_, early), late = logs[0].entries
    assert early["exploration/exploratory_share"] == 30 / 101
    assert early["exploration/action_entropy"] == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)))
    assert early["exploration/bonus_mean"] == pytest.approx(0.1)
    assert late == logs[1].entries[0]
    assert late[1]["exploration/exploratory_share"] == 0.25
    assert late[1]["exploration/action_entropy"] == 0
    assert late[1]["exploration/bonus_decay"] == pytest.approx(0.25)


def run(agent, env="FrozenLake-v1", **more):
    selects = settings_class("agents", agent)(name=agent).explores_with == "selector"
    exploration = {"exploration": {"name": "epsilon_greedy", "epsilon": 1.0}} if selects else {}
    data = {"env": {"id": env}, "agent": {"name": agent}, "train": {"total_steps": 9_000}, "device": "cpu"}
    return build(from_dict(data | exploration | more).config)


@pytest.mark.parametrize("agent", ["q_learning", "sarsa", "dqn", "ppo", "value_iteration"])
def test_a_run_says_what_its_agent_did(agent):
    made = run(agent, bonuses=[{"name": "count"}] if agent != "value_iteration" else [])
    assert isinstance(made.loop.diagnostics.visited, Visited)
    obs, taken, paid = set(), np.zeros(4, np.int64), []
    observe = made.agent.observe

    def watched(transition):
        obs.update(transition.obs.tolist())
        taken[transition.action] += 1
        observe(transition)

    made.agent.observe = watched
    if agent != "value_iteration":
        count = made.loop._bonuses["count"]
        pay = count.bonus
        count.bonus = lambda transition: paid.append(pay(transition)) or paid[-1]
    progress = made.loop.advance(600)
    assert progress.actions.tolist() == [taken.tolist()]
    assert progress.metrics["exploration/distinct_states"]() == len(obs)
    assert (progress.choices > 0) == (agent in ("q_learning", "sarsa", "dqn"))
    if agent == "dqn":  # Q is never tied, so that of random actions of 4 three quarters explore
        assert progress.choices == 600
        assert progress.exploratory / 600 == pytest.approx(0.75, abs=0.07)
    assert (progress.bonus is None) == (agent == "value_iteration")
    assert float(np.sum(paid)) == pytest.approx(progress.bonus or 0.0)


def test_the_compiled_loop_counts_what_the_readable_one_does():
    both = [
        run("sarsa", bonuses=[{"name": "count"}], train={"total_steps": 9_000, "compile": word})
        for word in ("on", "off")
    ]
    assert isinstance(both[0].loop, TabularLoop)
    for steps in (1, 700, 299):
        fast, slow = (made.loop.advance(steps) for made in both)
        assert (fast.choices, fast.exploratory, fast.bonus) == (slow.choices, slow.exploratory, slow.bonus)
        assert fast.actions.tolist() == slow.actions.tolist()
        counts = [made.metrics["exploration/distinct_states"]() for made in (fast, slow)]
        assert counts[0] == counts[1] > 0
    assert fast.exploratory > 100

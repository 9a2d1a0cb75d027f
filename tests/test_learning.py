"""Learning on several seeds: slow, so that they run by `make test-slow`."""

import json

import pytest
from conftest import ROOT

from rltrain.checkpoint import find
from rltrain.config.load import load
from rltrain.evaluator import Evaluator
from rltrain.experiment import Run, build
from rltrain.saved import SavedPolicy
from rltrain.statistics.aggregates import interquartile_mean

# interquartile mean over ten seeds, and how many of them reach 475 of 500, on 100 fresh episodes each
CARTPOLE = {
    "dqn": (475, 8),  # another processor rounds otherwise, and other seeds fail: 10 of 10 on one, 8 on another
    "ppo": (475, 9),
    "a2c": (475, 9),
    "reinforce": (475, 9),
    "actor_critic": (400, 5),  # learns from single steps, and fails on some seeds
}


def greedy_returns(name, seeds, folder):
    """Mean return of 100 fresh episodes of the last policy, for each seed."""
    returns = []
    for seed in seeds:
        own = folder / str(seed)
        own.mkdir()
        run = Run(load(ROOT / "configs" / f"{name}.yaml", [f"seed={seed}"]).config, own)
        run.train()
        run.close()
        with SavedPolicy.open(find(own / "checkpoints", "last")) as policy:
            returns.append(policy.evaluate(100, 0)["return_mean"])
    return returns


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", CARTPOLE)
def test_cartpole_is_solved_on_as_many_seeds_as_its_bar_says(name, tmp_path):
    mean, solved = CARTPOLE[name]
    returns = greedy_returns(f"{name}_cartpole", range(100, 110), tmp_path)
    assert interquartile_mean(returns) >= mean, returns
    assert sum(value >= 475 for value in returns) >= solved, returns


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_fast_ppo_stops_early_with_a_solved_cartpole_on_at_least_9_of_10_seeds(tmp_path):
    """It stops on 100 episodes of its own; the 100 here are others. The policy of the stop keeps 450 of 500."""
    returns = greedy_returns("ppo_cartpole_fast", range(100, 110), tmp_path)
    summaries = [json.loads((tmp_path / str(seed) / "summary.json").read_text()) for seed in range(100, 110)]
    early = sum(summary["steps"] < 100_000 for summary in summaries)
    assert early >= 9, summaries
    assert interquartile_mean(returns) >= 475, returns
    assert sum(value >= 450 for value in returns) >= 9, returns


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_pendulum_is_swung_up_in_20_000_steps(name, tmp_path):
    returns = greedy_returns(f"{name}_pendulum", range(100, 105), tmp_path)
    assert interquartile_mean(returns) >= -170, returns


BARS = {"frozenlake_4x4": 0.01, "frozenlake_8x8": 0.02, "taxi": 0.05, "blackjack": 0.005}
TABULAR = [
    (path.stem, bar)
    for where, bar in BARS.items()
    for path in sorted((ROOT / "configs").glob(f"*_{where}.yaml"))
    if "iteration" not in path.stem
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bar"), [*TABULAR, ("q_learning_cliffwalking", 1e-9)])
def test_a_table_is_within_its_bar_of_the_optimum_on_at_least_9_of_10_seeds(name, bar):
    regrets = []
    for seed in range(200, 210):
        experiment = build(load(ROOT / "configs" / f"{name}.yaml", [f"seed={seed}"]).config)
        experiment.loop.advance(experiment.config.train.total_steps)
        evaluator = Evaluator(experiment.config, experiment.spec, experiment.agent)
        regrets.append(evaluator.exact_figures()["regret"])
    assert sum(regret <= bar for regret in regrets) >= 9, regrets

"""Learning on several seeds: slow, so that they run by `make test-slow`."""

import pytest
from conftest import ROOT

from rltrain.checkpoint import find
from rltrain.config.load import load
from rltrain.evaluation import interquartile_mean
from rltrain.experiment import Evaluator, Run, build
from rltrain.saved import SavedPolicy


@pytest.mark.slow
def test_dqn_solves_cartpole_on_at_least_9_of_10_seeds(tmp_path):
    returns = []
    for seed in range(100, 110):
        folder = tmp_path / str(seed)
        folder.mkdir()
        run = Run(load(ROOT / "configs" / "dqn_cartpole.yaml", [f"seed={seed}"]).config, folder)
        run.train()
        run.close()
        with SavedPolicy.open(find(folder / "checkpoints", "last")) as policy:
            returns.append(policy.evaluate(100, 0)["return_mean"])
    assert interquartile_mean(returns) >= 475, returns
    assert sum(value >= 475 for value in returns) >= 9, returns


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

"""Learning on several seeds: slow, so that they run by `make test-slow`."""

import pytest
from conftest import ROOT

from rltrain.checkpoint import find
from rltrain.config.load import load
from rltrain.evaluation import interquartile_mean
from rltrain.experiment import Run
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

"""Updates on a CUDA device: from CUDA graphs as call by call, as on the CPU, and on after a resumed run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import test_compile as streams

from rltrain.cli.main import app

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", streams.SETTINGS)
def test_an_update_from_graphs_is_the_eager_one_and_that_of_the_cpu(name):
    cpu = streams.played(name, "eager", "cpu").network.parameters
    eager = streams.played(name, "eager", "cuda").network.parameters.cpu()
    graphs = streams.played(name, "graphs", "cuda").network
    recorded = [len(function._recordings) for function in graphs._functions.values()]
    assert (max(recorded) > 0) == (name != "reinforce")  # its batches have ever new lengths
    np.testing.assert_allclose(graphs.parameters.cpu(), eager, rtol=0, atol=1e-6)
    np.testing.assert_allclose(eager, cpu, rtol=0, atol=1e-4)


@pytest.mark.slow  # a compiler at work
@pytest.mark.parametrize("name", streams.SETTINGS)
def test_a_compiled_update_is_the_eager_one(name):
    eager, compiled = (streams.played(name, mode, "cuda").network.parameters.cpu() for mode in ("eager", "compiled"))
    np.testing.assert_allclose(compiled, eager, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", ["ppo_cartpole", "a2c_cartpole", "dqn_cartpole", "td3_pendulum", "sac_pendulum"])
def test_a_run_on_a_gpu_goes_on_after_an_interruption_as_if_there_had_been_none(config, tmp_path):
    from conftest import ROOT
    from typer.testing import CliRunner

    def train(*arguments):
        result = CliRunner().invoke(app, ["train", *arguments, "-q"], catch_exceptions=False)
        assert result.exit_code == 0

    path, every = str(ROOT / "configs" / f"{config}.yaml"), ["eval.every=4000", "checkpoint.every=4000"]
    train(path, "device=cuda", "--run-dir", str(tmp_path / "whole"), "train.total_steps=8000", *every)
    train(path, "device=cuda", "--run-dir", str(tmp_path / "cut"), "train.total_steps=4000", *every)
    train("--resume", str(tmp_path / "cut"), "train.total_steps=8000")
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut"))
    assert whole[-1] == cut[-1]


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "tqc"])
def test_gradient_steps_of_continuous_agents_from_graphs_are_the_eager_ones(name):
    """Recording calls a step several times; what these change is put back."""
    sys.path.insert(0, str(Path(__file__).parent / "agents"))
    import test_off_policy as bandit

    ended = {}
    for mode in ("eager", "graphs"):
        made = bandit.agent(name, device="cuda")
        for network in made.networks:
            network.mode = mode
        bandit.play(made, 60)
        ended[mode] = [part.clone() for part in made._tensors()]
        if mode == "graphs":
            assert made._run._recordings
    for one, other in zip(*ended.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

"""A rank on a CUDA device, whose gradients go through NCCL: here a team of one, which must change nothing."""

import numpy as np
import pytest

from rltrain.collective import TorchTeam
from rltrain.config.load import from_dict
from rltrain.experiment import build_part
from rltrain.team import ALONE

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_a_team_of_one_over_nccl_learns_what_one_process_learns(name):
    agent = {"name": name, "n_steps": 32, "hidden_sizes": [32], "normalize_advantage": True}
    agent |= {"batch_size": 48, "target_kl": 0.05} if name == "ppo" else {}
    env = {"id": "CartPole-v1", "num_envs": 4, "wrappers": [{"name": "normalize_observation"}]}
    train = {"total_steps": 10_000, "compile": "off"}
    config = from_dict({"env": env, "agent": agent, "train": train, "device": "cuda"}).config
    team = TorchTeam(0, 1, torch.distributed.HashStore(), gpu=True)
    try:
        one, other = build_part(config, ALONE), build_part(config, team)
        before = one.agent.network.parameters.cpu().numpy().copy()
        assert one.loop.advance(600).returns == other.loop.advance(600).returns
        mine, theirs = (each.agent.network.parameters.cpu().numpy() for each in (other, one))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
        assert np.abs(theirs - before).max() > 1e-3
        assert team.gather(torch.ones(3, device="cuda")).shape == (1, 3)
    finally:
        team.close()

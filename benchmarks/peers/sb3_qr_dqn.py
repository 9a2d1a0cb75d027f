"""sb3-contrib's QR-DQN: microseconds of a gradient step, in an environment of its own."""

from __future__ import annotations

import json
import time

import torch
from sb3_contrib import QRDQN
from stable_baselines3.common.logger import Logger

STEPS = 300


def main() -> None:
    """25 quantiles, batches of 64, two layers of 64 units, CartPole."""
    torch.set_num_threads(1)
    kwargs = {"net_arch": [64, 64], "n_quantiles": 25}
    model = QRDQN(
        "MlpPolicy", "CartPole-v1", batch_size=64, buffer_size=100_000, learning_starts=5_000, max_grad_norm=10.0,
        policy_kwargs=kwargs, device="cpu", seed=0,
    )  # fmt: skip
    model.set_logger(Logger(None, []))
    model.learn(5_000)
    model.train(50, 64)
    began = time.perf_counter()
    model.train(STEPS, 64)
    print(json.dumps({"microseconds": 1e6 * (time.perf_counter() - began) / STEPS}))


if __name__ == "__main__":
    main()

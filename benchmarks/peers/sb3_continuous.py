"""Stable-Baselines3's SAC and TD3 on Pendulum, in its own environment: gradient steps a second, or a whole run."""

from __future__ import annotations

import argparse
import json
import time

import gymnasium as gym
import torch
from stable_baselines3 import SAC, TD3


def main() -> None:
    """Print gradient steps a second of wall and of processor time, or the seconds of a run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("agent", choices=["sac", "td3"])
    parser.add_argument("--hidden", type=int, nargs="+", required=True)
    parser.add_argument("--gradient-steps", type=int, default=300)
    parser.add_argument("--run", type=int, default=0, help="train for so many environment steps instead")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = {"sac": SAC, "td3": TD3}[options.agent](
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        policy_kwargs={"net_arch": options.hidden},
        learning_rate=1e-3,
        batch_size=256,
        learning_starts=100,
        buffer_size=20_000,
        device=options.device,
        seed=0,
    )
    if options.run:
        began = time.perf_counter()
        made.learn(options.run)
        print(json.dumps({"learn_seconds": time.perf_counter() - began}))
        return
    made.learn(150)
    began = time.perf_counter(), time.process_time()
    made.train(gradient_steps=options.gradient_steps, batch_size=256)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    print(json.dumps({"wall": options.gradient_steps / wall, "cpu": options.gradient_steps / cpu}))


if __name__ == "__main__":
    main()

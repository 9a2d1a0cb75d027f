"""Stable-Baselines3's DQN with the published CartPole settings, in an environment of its own."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor


def main() -> None:
    """Train, save, and print seconds and the final return."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval", type=int, default=0, help="greedy episodes at the end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    model = DQN(
        "MlpPolicy",
        Monitor(gym.make("CartPole-v1")),
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        tensorboard_log=str(folder),
        seed=options.seed,
        device="cpu",
    )
    began = time.perf_counter()
    model.learn(options.steps)
    learnt = time.perf_counter()
    model.save(folder / "model")
    result = {"learn_seconds": learnt - began}
    if options.eval:
        returns = evaluate_policy(model, Monitor(gym.make("CartPole-v1")), options.eval)
        result |= {"return_mean": float(returns[0]), "eval_seconds": time.perf_counter() - learnt}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

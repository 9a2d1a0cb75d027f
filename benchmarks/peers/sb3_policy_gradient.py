"""Stable-Baselines3's PPO and A2C with the published CartPole settings, in an environment of its own."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule

SETTINGS = {
    "ppo": {
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "learning_rate": LinearSchedule(1e-3, 0.0, 1.0),
        "clip_range": LinearSchedule(0.2, 0.0, 1.0),
    },
    "a2c": {},
}


class Nothing(BaseCallback):
    """Collecting asks for a callback."""

    def _on_step(self) -> bool:
        return True


def collect(model: PPO | A2C, steps: int) -> float:
    """Steps a second of the policy in its environments, without an update."""
    _, callback = model._setup_learn(10 * steps, callback=Nothing())
    began, done = time.perf_counter(), 0
    while done < steps:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        done += model.n_steps * model.n_envs
    return done / (time.perf_counter() - began)


def main() -> None:
    """Train, save, and print seconds and the final return; or only collect."""
    parser = argparse.ArgumentParser()
    parser.add_argument("agent", choices=SETTINGS)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval", type=int, default=0, help="greedy episodes at the end")
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    make = {"ppo": PPO, "a2c": A2C}[options.agent]
    envs = make_vec_env("CartPole-v1", 8, seed=options.seed)
    settings = SETTINGS[options.agent]
    model = make("MlpPolicy", envs, **settings, tensorboard_log=str(folder), seed=options.seed, device="cpu")
    if options.collect:
        print(json.dumps({"steps_per_second": collect(model, options.steps)}))
        return
    began = time.perf_counter()
    model.learn(options.steps)
    result = {"learn_seconds": time.perf_counter() - began}
    model.save(folder / "model")
    if options.eval:
        returns = evaluate_policy(model, make_vec_env("CartPole-v1", 1), options.eval)
        result["return_mean"] = float(returns[0])
    print(json.dumps(result))


if __name__ == "__main__":
    main()

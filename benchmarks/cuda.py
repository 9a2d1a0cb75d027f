"""PPO's gradient step on a GPU: call by call, from CUDA graphs, compiled and from graphs; and in NumPy beside it.

    python benchmarks/cuda.py [--out FILE]

The ways run in turn in one process, on one rollout of random observations; a round's seconds are wall seconds of
whole updates, data transfer and advantages included. Results go to benchmarks/results/cuda.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rltrain.core import EnvSpec, Transition
from rltrain.registry import find

RESULT = Path(__file__).parent / "results" / "cuda.json"
ENVS, INPUTS, ROUNDS = 64, 16, 7
CASES = {  # hidden sizes, batch size, steps of a rollout
    "small: 2 x 64 units, batches of 256": ((64, 64), 256, 32),
    "large: 2 x 1024 units, batches of 4096": ((1024, 1024), 4096, 128),
}
WAYS = {
    "NumPy, CPU": ("cpu", "eager"),
    "torch, call by call": ("cuda", "eager"),
    "torch, CUDA graphs": ("cuda", "graphs"),
    "torch, compiled and CUDA graphs": ("cuda", "compiled"),
}


def agent_of(hidden: tuple[int, ...], batch: int, steps: int, device: str, mode: str) -> Any:
    """A PPO agent that runs its updates this way."""
    spec = EnvSpec("test", gym.spaces.Box(-1, 1, (INPUTS,), np.float32), gym.spaces.Discrete(4), ENVS)
    cls = find("agents", "ppo")
    settings = cls.Config(hidden_sizes=hidden, batch_size=batch, n_steps=steps, n_epochs=10)
    agent = cls(settings, spec, exploration=None, rng=np.random.default_rng(0), device=device)
    agent.network.mode = mode
    return agent


def seconds_of_an_update(agent: Any, steps: int, rng: np.random.Generator) -> float:
    """Fill the rollout, and time what is learnt from it."""
    none = np.zeros(ENVS, bool)
    for _ in range(steps):
        obs, next_obs = rng.normal(size=(2, ENVS, INPUTS)).astype(np.float32)
        action = agent.act(obs)
        agent.observe(Transition(obs, action, rng.normal(size=ENVS).astype(np.float32), next_obs, none, none))
    began = time.perf_counter()
    agent.update()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    out = parser.parse_args().out
    cases = {}
    for case, (hidden, batch, steps) in CASES.items():
        agents = {way: agent_of(hidden, batch, steps, *how) for way, how in WAYS.items()}
        gradient_steps = 10 * (ENVS * steps // batch)
        rng, taken = np.random.default_rng(1), {way: [] for way in WAYS}
        for round_number in range(ROUNDS + 2):
            for way, agent in agents.items():
                seconds = seconds_of_an_update(agent, steps, rng)
                if round_number >= 2:  # before that it is compiled and recorded
                    taken[way].append(1e6 * seconds / gradient_steps)
        cases[case] = {way: {"median": median(each), "all": each} for way, each in taken.items()}
        for way, each in cases[case].items():
            print(f"{case:42} {way:34} {each['median']:9.1f} us a gradient step", flush=True)
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    out.write_text(json.dumps({"unit": "microseconds a gradient step", **machine, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()

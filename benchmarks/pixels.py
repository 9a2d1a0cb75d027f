"""Learning from pixels: DQN's gradient steps against Stable-Baselines3's, Atari's steps against ale-py's own vector.

    .venv/bin/python benchmarks/pixels.py [--peer PATH/TO/PEER/bin/python] [--pairs 5]

All on one thread, in turn, so that a machine whose speed drifts slows both; ratios are taken pair by pair. A gradient
step is a batch of 32 screens (4, 84, 84) drawn from replay, through the convolutions of the Nature network, with Adam
and the norm of the gradient clipped. Results go to benchmarks/results/pixels.json, where without a peer the gradient
steps stay as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
GAMES, TURNS, VECTOR_STEPS = 8, 16, 25  # so many turns a pair, of so many steps each


def updates(steps: int) -> float:
    """Gradient steps a second of our DQN on random screens."""
    import gymnasium as gym

    from rltrain.core import EnvSpec, Transition
    from rltrain.registry import find

    spec = EnvSpec("Screens", gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(6), 1, frame_stack=4)
    dqn, rng = find("agents", "dqn"), np.random.default_rng(0)
    settings = dqn.Config(  # as the peer's defaults, and its 512 units
        hidden_sizes=(512,), learning_rate=1e-4, buffer_size=2_000, learning_starts=1_000, batch_size=32
    )
    agent = dqn(settings, spec, exploration=None, rng=rng, device="cpu")
    stack = rng.integers(0, 256, (1, 4, 84, 84), np.uint8)
    for step in range(1_000):
        after = np.concatenate((stack[:, 1:], rng.integers(0, 256, (1, 1, 84, 84), np.uint8)), 1)
        over, reward = np.array([step % 100 == 99]), np.array([step % 7 == 0], np.float32)
        agent.observe(Transition(stack, rng.integers(0, 6, 1), reward, after, over, np.array([False])))
        stack = after
    for _ in range(60):  # until loops are compiled, as in a run of any length
        agent._gradient_steps(1)
    began = time.perf_counter()
    for _ in range(steps):
        agent._gradient_steps(1)
    return steps / (time.perf_counter() - began)


class RandomAgent:
    """Acts without looking."""

    networks = ()

    def __init__(self, actions: int, games: int) -> None:
        self._rng, self._actions, self._games = np.random.default_rng(0), actions, games

    def act(self, obs: Any, *, explore: bool = True) -> Any:
        """Uniform actions (N,)."""
        return self._rng.integers(self._actions, size=self._games)

    def observe(self, transition: Any) -> None:
        """Nothing."""

    def update(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def collection(pairs: int) -> list[dict[str, float]]:
    """Agent steps a second of Pong with random actions: our loop, and ale-py's vector with its own resets."""
    from ale_py.vector_env import AtariVectorEnv

    from rltrain.config.schema import AtariSettings, EnvSettings
    from rltrain.envs.vector import make_vector
    from rltrain.loop import EnvironmentLoop

    settings = EnvSettings(id="ALE/Pong-v5", num_envs=GAMES, atari=AtariSettings(sticky_actions=0.0, threads=1))
    loop = EnvironmentLoop(RandomAgent(6, GAMES), make_vector(settings), seeds=list(range(GAMES)))
    its, rng = AtariVectorEnv("pong", GAMES, num_threads=1), np.random.default_rng(0)
    its.reset(seed=0)
    rows, steps = [], GAMES * VECTOR_STEPS
    for _ in range(pairs + 1):
        mine = alone = 0.0
        for _ in range(TURNS):
            began = time.perf_counter()
            loop.advance(steps)
            between = time.perf_counter()
            for _ in range(VECTOR_STEPS):
                its.step(rng.integers(6, size=GAMES))
            mine, alone = mine + between - began, alone + time.perf_counter() - between
        rates = {"rltrain": TURNS * steps / mine, "ale_py": TURNS * steps / alone}
        rows.append(rates | {"ratio": alone / mine})
    return rows[1:]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with stable-baselines3")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--updates", type=int, help="only print our gradient steps a second, over so many")
    options = parser.parse_args()
    if options.updates:
        print(updates(options.updates))
        return
    file = HERE / "results" / "pixels.json"
    result: dict[str, Any] = {} if options.peer else json.loads(file.read_text())
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "threads": 1}
    rows = collection(options.pairs)
    result["atari_steps_a_second"] = {"pairs": rows, "median_ratio": median(row["ratio"] for row in rows)}
    if options.peer:
        commands = {
            "rltrain": [sys.executable, __file__, "--updates", "100"],
            "stable_baselines3": [options.peer, str(HERE / "peers" / "sb3_pixels.py"), "100"],
        }
        rows = []
        for _ in range(options.pairs):
            row = {
                name: float(subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD).stdout)
                for name, command in commands.items()
            }
            rows.append(row | {"ratio": row["rltrain"] / row["stable_baselines3"]})
        result["dqn_updates_a_second"] = {"pairs": rows, "median_ratio": median(row["ratio"] for row in rows)}
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

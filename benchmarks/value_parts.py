"""What a gradient step of the value-based agents costs with each of their parts, against the arithmetic of the part.

    .venv/bin/python benchmarks/value_parts.py [--rounds 300] [--peer PATH/TO/PEER/bin/python]

Whole blocks of `update` are timed, replay included: batches of 64, two hidden layers of 64 units, CartPole's sizes, a
buffer of 100,000. Every round takes each variant once, so that a machine whose speed drifts slows all; figures are
medians over the rounds. Priorities and noise end that batches are drawn and valued many at once, so that they are
held against DQN with one at a time. The arithmetic of a part is timed by itself: the passes, draws and equations that
it adds, on arrays of the same sizes. On one thread: set OMP_NUM_THREADS and OPENBLAS_NUM_THREADS to 1. With `--peer`,
QR-DQN against sb3-contrib's with the same settings, in turn.
Results go to benchmarks/results/value_parts.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import EnvSpec, Transition
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.nn import distributional, losses
from rltrain.priorities import Priorities, PrioritySettings
from rltrain.registry import find, settings_class

HERE = Path(__file__).parent
SPEC = EnvSpec("bench", gym.spaces.Box(-5, 5, (4,), np.float32), gym.spaces.Discrete(2), 1)
BATCH, ROWS, STEPS = 64, 100_000, 16
COMMON = {
    "batch_size": BATCH,
    "buffer_size": ROWS,
    "hidden_sizes": (64, 64),
    "learning_starts": 0,
    "gradient_steps": STEPS,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("dqn", {}),
    "one_batch_at_a_time": ("dqn", {}),
    "double": ("dqn", {"double": True}),
    "dueling": ("dqn", {"dueling": True}),
    "n_step": ("dqn", {"n_step": 3}),
    "noisy": ("dqn", {"noisy": True}),
    "prioritized": ("dqn", {"prioritized": {}}),
    "munchausen": ("dqn", {"munchausen": {}}),
    "c51": ("c51", {}),
    "qr_dqn_25": ("qr_dqn", {"n_quantiles": 25}),
    "iqn": ("iqn", {}),
    "rainbow": ("rainbow", {}),
}


def filled(name: str, settings: dict[str, Any]) -> Any:
    """An agent whose replay is full of random steps."""
    config = settings_class("agents", name)(name=name, **{**COMMON, **settings})  # type: ignore[call-arg]
    selector = None if config.noisy else EpsilonGreedy(EpsilonGreedy.Config())  # type: ignore[attr-defined]
    agent = find("agents", name)(config, SPEC, exploration=selector, rng=np.random.default_rng(0), device="cpu")
    rng, no = np.random.default_rng(1), np.zeros(1, bool)
    obs = rng.normal(size=(1_000, 1, 4)).astype(np.float32)
    for row in range(5_000):
        step = obs[row % 1_000], np.array([row % 2]), np.ones(1, np.float32), obs[(row + 1) % 1_000], no, no
        agent.observe(Transition(*step))
    agent.update()
    return agent


def microseconds(call: Callable[[], Any], times: int = 1) -> float:
    """Of one of `times` calls."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return 1e6 * (time.perf_counter() - began) / times


def arithmetic() -> dict[str, Callable[[], Any]]:
    """What each part adds to a step of dqn, by itself: passes through networks, draws, and equations."""
    agents = {name: filled(*VARIANTS[name]) for name in ("dqn", "dueling", "noisy", "rainbow", "qr_dqn_25")}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, 4)).astype(np.float32)
    action, ones, discount = rng.integers(2, size=BATCH), np.ones(BATCH, np.float32), np.full(BATCH, 0.99, np.float32)
    q = rng.normal(size=(BATCH, 2)).astype(np.float32)
    priorities = Priorities(PrioritySettings(), ROWS)
    for row in range(5_000):
        priorities.add(row)
    noisy, plain = agents["noisy"].q, agents["dqn"].q

    def munchausen() -> None:
        losses.munchausen_term(plain.values(x), action, 0.03, -1.0)
        losses.soft_value(q, q, 0.03)

    def prioritized() -> None:
        rows, _ = priorities.draw(BATCH, 5_000, 0.4, rng)
        priorities.update(rows, ones)

    def noise() -> None:
        noisy.disturb(rng)
        noisy.disturb(rng)
        agents["noisy"].optimizer.step(noisy.network.gradient, 0.0)  # twice as many numbers

    return {
        "double": lambda: plain.values(x),
        "dueling": lambda: [agents["dueling"].q.values(x) for _ in range(2)],
        "munchausen": munchausen,
        "prioritized": prioritized,
        "noisy": noise,
        "qr_dqn_25": quantiles("qr_dqn_25", agents, x, action, discount),
    }


def quantiles(name: str, agents: dict[str, Any], x: Any, action: Any, discount: Any) -> Callable[[], Any]:
    """A step of quantiles alone: forward, equations, backward, target, optimiser."""
    agent, ones = agents[name], np.ones(BATCH, np.float32)
    fractions = agent._seen(x)[1]

    def gradient(outputs: Any, target: Any) -> Any:
        rows = outputs.reshape(BATCH, 2, -1)
        grad, error = distributional.quantile_gradient(rows, action, target, ones, fractions)
        return grad.reshape(outputs.shape), error

    def step() -> None:
        following = agent.target.values(x)
        y = losses.td_target(ones[:, None], discount[:, None], losses.greedy_value(following.mean(-1), following))
        agent.q.network.learn(gradient, x, y)
        agent.optimizer.step(agent.q.network.gradient, 0.0)
        agent.replay.sample(BATCH)

    return step


def million() -> dict[str, float]:
    """Sampling, weights and update of 64 out of a million priorities, microseconds."""
    priorities, rng = Priorities(PrioritySettings(), 1_000_000), np.random.default_rng(0)
    for row in range(1_000_000):
        priorities.add(row)
    priorities.draw(1, 1_000_000, 0.4, rng)
    for at in range(0, 1_000_000, 50_000):
        priorities.update(np.arange(at, at + 50_000), rng.exponential(size=50_000))
    error = rng.exponential(size=(512, BATCH))
    taken = []
    for row in range(4_000):
        began = time.perf_counter()
        drawn, _ = priorities.draw(BATCH, 1_000_000, 0.4, rng)
        priorities.update(drawn, error[row % 512])
        taken.append(1e6 * (time.perf_counter() - began))
    return {"median": median(taken), "fastest_tenth": float(np.quantile(taken, 0.1))}


def peer_steps(python: str, rounds: int) -> dict[str, Any]:
    """QR-DQN with 25 quantiles, microseconds a gradient step, in turn with the peer's."""
    mine, its, agent = [], [], filled(*VARIANTS["qr_dqn_25"])
    for _ in range(rounds):
        mine.append(microseconds(lambda: agent._gradient_steps(32), 20) / 32)
        done = subprocess.run(
            [python, str(HERE / "peers" / "sb3_qr_dqn.py")], check=True, capture_output=True, text=True
        )
        its.append(json.loads(done.stdout.splitlines()[-1])["microseconds"])
    return {"rltrain": mine, "sb3_contrib": its, "median_ratio": median(b / a for a, b in zip(mine, its, strict=True))}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--peer", help="python of an environment with sb3-contrib")
    options = parser.parse_args()
    agents = {key: filled(*variant) for key, variant in VARIANTS.items()}
    agents["one_batch_at_a_time"].block = 1  # as whoever draws by priorities, or under new noise, has to
    parts = arithmetic()
    whole: dict[str, list[float]] = {key: [] for key in agents}
    alone: dict[str, list[float]] = {key: [] for key in parts}
    for _ in range(options.rounds):
        for key, agent in agents.items():
            whole[key].append(microseconds(lambda agent=agent: steps(agent)) / STEPS)  # type: ignore[misc]
        for key, call in parts.items():
            alone[key].append(microseconds(call, 4))
    step = {key: median(values) for key, values in whole.items()}
    added = {key: median(values) for key, values in alone.items()}
    base = {"qr_dqn_25": 0.0} | dict.fromkeys(("prioritized", "noisy"), step["one_batch_at_a_time"])
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gradient_step_microseconds": step,
        "arithmetic_of_the_part_microseconds": added,
        "over_dqn_and_arithmetic": {key: step[key] / (base.get(key, step["dqn"]) + added[key]) for key in added},
        "priorities_64_of_a_million_microseconds": million(),
    }
    if options.peer:
        result["qr_dqn_25_against_sb3_contrib_microseconds"] = peer_steps(options.peer, 5)
    (HERE / "results" / "value_parts.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def steps(agent: Any) -> None:
    """As many gradient steps as `STEPS`, as a block of `update` takes them."""
    left = STEPS
    while left:
        block = min(left, agent.block)
        agent._gradient_steps(block)
        left -= block


if __name__ == "__main__":
    main()

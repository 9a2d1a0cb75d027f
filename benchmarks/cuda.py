"""Gradient steps on a GPU: call by call, from CUDA graphs, compiled and from graphs; and in NumPy beside them.

    python benchmarks/cuda.py [--out FILE] [--replay] [--peer PATH/TO/PEER/bin/python]

PPO by default; with --replay sac, td3 and dqn, call by call and from CUDA graphs. With --peer whole runs of
sac on Pendulum beside Stable-Baselines3's, both on the GPU.

The ways run in turn in one process, on one rollout of random observations; a round's seconds are wall seconds of
whole updates, data transfer and advantages included. Results go to benchmarks/results/cuda.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
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


REPLAY = {  # agent: hidden sizes
    "sac": (256, 256),
    "td3": (400, 300),
    "dqn": (256, 256),
}
STEPS = 320
"""Gradient steps in a round."""


def learner(name: str, device: str, mode: str) -> Any:
    """An agent with a replay memory of random transitions, 17 numbers in and 6 actions or dimensions out."""
    box = gym.spaces.Box(-1, 1, (6,), np.float32)
    spec = EnvSpec(
        "test", gym.spaces.Box(-9, 9, (17,), np.float32), gym.spaces.Discrete(6) if name == "dqn" else box, 1
    )
    cls, kind = find("agents", name), {"dqn": "epsilon_greedy", "td3": "gaussian_noise"}.get(name)
    settings = cls.Config(hidden_sizes=REPLAY[name], batch_size=256, buffer_size=10_000, learning_starts=0)
    exploration = None if kind is None else (part := find("explorations", kind))(part.Config())
    agent = cls(settings, spec, exploration=exploration, rng=np.random.default_rng(0), device=device)
    for network in agent.networks:
        network.mode = mode
    rng, none = np.random.default_rng(1), np.zeros(1, bool)
    for _ in range(2_000):
        obs, next_obs = rng.normal(size=(2, 1, 17)).astype(np.float32)
        action = np.array([spec.action_space.sample()])
        agent.observe(Transition(obs, action, rng.normal(size=1).astype(np.float32), next_obs, none, none))
    return agent


def seconds_of_gradient_steps(agent: Any, block: int) -> float:
    """Seconds of `STEPS` of them, `block` at a time, sampling and data transfer included."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS // block):
        agent._gradient_steps(block)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def replay_cases() -> dict[str, Any]:
    """Microseconds a gradient step of every agent with replay, one at a time and 32 together."""
    cases: dict[str, Any] = {}
    for name in REPLAY:
        for block in (1, 32):
            agents = {way: learner(name, *how) for way, how in list(WAYS.items())[:3]}
            taken: dict[str, list[float]] = {way: [] for way in agents}
            for round_number in range(ROUNDS + 1):
                for way, agent in agents.items():
                    seconds = seconds_of_gradient_steps(agent, block)
                    if round_number:  # in the first it is recorded
                        taken[way].append(1e6 * seconds / STEPS)
            case = f"{name}, {block} gradient steps at a time"
            cases[case] = {way: {"median": median(each), "all": each} for way, each in taken.items()}
            eager, graphs = (cases[case][way]["median"] for way in ("torch, call by call", "torch, CUDA graphs"))
            cases[case]["eager_over_graphs"] = eager / graphs
            print(f"{case:38} eager {eager:7.0f} us, graphs {graphs:7.0f} us, {eager / graphs:.2f} times", flush=True)
    return cases


def whole_runs(peer: str, steps: int = 5_000) -> dict[str, Any]:
    """Seconds of sac on Pendulum from process start to exit, ours and the peer's, on the GPU."""
    here, rows = Path(__file__).parent, []
    for _ in range(2):
        own = ["agent.hidden_sizes=[256,256]", f"train.total_steps={steps}", "agent.learning_starts=100", "device=cuda"]
        mine = [sys.executable, "-c", "from rltrain.cli.main import main; main()", "train"]
        mine += [str(here.parent / "configs" / "sac_pendulum.yaml"), *own, "eval.every=null", "--quiet", "--run-dir"]
        its = [peer, str(here / "peers" / "sb3_continuous.py"), "sac", "--hidden", "256", "256", "--device", "cuda"]
        seconds = []
        for command in ([*mine, tempfile.mkdtemp()], [*its, "--run", str(steps)]):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        rows.append({"rltrain": seconds[0], "stable_baselines3": seconds[1], "ratio": seconds[1] / seconds[0]})
        print(f"whole sac run: {seconds[0]:.1f} s, peer {seconds[1]:.1f} s", flush=True)
    return {"steps": steps, "rows": rows}


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--replay", action="store_true", help="agents with replay instead of PPO")
    parser.add_argument("--peer", help="python of an environment with stable-baselines3, for whole runs")
    options = parser.parse_args()
    out, cases = options.out, replay_cases() if options.replay else ppo_cases()
    runs = {} if options.peer is None else {"whole_sac_run": whole_runs(options.peer)}
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    told = {"unit": "microseconds a gradient step", **machine, "cases": cases, **runs}
    out.write_text(json.dumps(told, indent=1) + "\n")


def ppo_cases() -> dict[str, Any]:
    """Microseconds a gradient step of PPO."""
    cases: dict[str, Any] = {}
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
    return cases


if __name__ == "__main__":
    main()

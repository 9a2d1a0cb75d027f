"""What is compared: environments, agents, and the strategies of each with the settings that compete.

A strategy has one or more candidates. Where there are several, the best on seeds 0 to 4 is chosen by its mean return
while learning, and measured on other seeds. Units are those of the environment's return, so that one list serves all
tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Block = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One environment, with what counts as success."""

    about: str
    env: Block
    steps: dict[str, int]
    """Agent -> environment steps, the budget."""
    success: float | None = None
    """Return of an episode that is a success; None where rewards are everywhere and only regret tells."""
    bar: float | None = None
    """Return of a final policy that has solved the task; None for `success`."""
    unit: float = 1.0
    """A return that matters here: the scale of bonuses, margins and priors."""
    top: float = 1.0
    """An optimistic action value."""
    agents: dict[str, Block] = field(default_factory=dict)
    """Settings of an agent beside the common ones."""
    envs: dict[str, Block] = field(default_factory=dict)
    """Settings of the environment for one agent, such as how many there are."""


@dataclass(frozen=True)
class Candidate:
    """Blocks that a strategy adds to the configuration."""

    exploration: Block | None = None
    agent: Block = field(default_factory=dict)
    bonuses: tuple[Block, ...] = ()
    env: Block = field(default_factory=dict)


def _named(name: str, **choices: Any) -> list[Block]:
    """Blocks of a component, one for every combination of lists in `choices`."""
    lists = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [{"name": name, **dict(zip(choices, values, strict=True))} for values in product(*lists)]


def _bonus(name: str, scale: Any, **settings: Any) -> tuple[Block, ...]:
    return ({"name": name, "scale": scale, **settings},)


def _falling(start: float, steps: int, end: float = 0.0) -> Block:
    return {"schedule": "linear", "start": start, "end": end, "steps": steps}


def tables(task: Task) -> dict[str, list[Candidate]]:
    """Strategies of q_learning."""
    unit, top, steps = task.unit, task.top, task.steps["q_learning"]
    epsilons = [0.05, 0.2, _falling(1.0, steps // 2, 0.05)]
    optimism = {"initial_value": top}
    margins = _named("ucb", c=[unit * c for c in (0.03, 0.1, 0.3, 1.0, 3.0)])
    wide = max(abs(top), unit)
    posteriors = {"prior_mean": top, "prior_std": [wide / 3, wide], "noise_std": [unit / 30, unit / 10, unit / 3]}
    learnt = {"posterior": "normal_inverse_gamma", **posteriors}
    strategies: dict[str, list[Candidate]] = {
        "greedy": [Candidate({"name": "greedy"})],
        "optimistic": [Candidate({"name": "greedy"}, optimism)],
        "epsilon_greedy": [Candidate(block) for block in _named("epsilon_greedy", epsilon=epsilons)],
        "epsilon_z_greedy": [Candidate(block) for block in _named("epsilon_z_greedy", epsilon=epsilons[2:])],
        "boltzmann": [
            Candidate(block) for block in _named("boltzmann", temperature=[0.03, 0.1, 0.3, 1.0], normalize=True)
        ],
        "max_boltzmann": [
            Candidate(block)
            for block in _named("max_boltzmann", temperature=[0.1, 1.0], normalize=True, epsilon=epsilons)
        ],
        "ucb": [Candidate(block) for block in margins],
        "ucb_optimistic": [Candidate(block, optimism) for block in margins],
        "thompson": [Candidate(block, optimism) for block in _named("thompson", **posteriors)],
        "thompson_learnt_noise": [Candidate(block, optimism) for block in _named("thompson", **learnt)],
    }
    # a pair that was never tried is believed to be worth the bonus of a first visit
    strategies["count"] = [
        Candidate(
            {"name": "epsilon_greedy", "epsilon": epsilon},
            {"initial_value": unit * scale},
            _bonus("count", _falling(unit * scale, steps * 4 // 5), over=over),
        )
        for over, scale, epsilon in product(("state", "state_action"), (0.01, 0.1, 1.0), (0.0, 0.05))
    ]
    return strategies


def deep_values(task: Task) -> dict[str, list[Candidate]]:
    """Strategies of dqn, one setting each. Bonuses are added to what epsilon-greedy does."""
    unit, bins = task.unit, {"hash": "bins", "bins": 20} if "MountainCar" in task.env["id"] else {}
    annealed = {"epsilon": _falling(1.0, task.steps["dqn"] // 4, 0.05)}
    epsilon = {"name": "epsilon_greedy", **annealed}
    return {
        "epsilon_greedy": [Candidate(epsilon)],
        "epsilon_z_greedy": [Candidate({"name": "epsilon_z_greedy", **annealed})],
        "boltzmann": [Candidate({"name": "boltzmann", "temperature": 0.1, "normalize": True})],
        "noisy": [Candidate(None, {"noisy": True})],
        "ucb": [Candidate({"name": "ucb", "c": unit}, {"visits": bins or {"hash": "simhash"}})],
        "bootstrapped": [Candidate({"name": "thompson"}, {"heads": 10, "prior_scale": 3.0 * unit})],
        "hashed_count": [Candidate(epsilon, bonuses=_bonus("hashed_count", unit, **bins))],
        "rnd": [Candidate(epsilon, bonuses=_bonus("rnd", 10.0 * unit))],
        "icm": [Candidate(epsilon, bonuses=_bonus("icm", unit))],
        "episodic": [Candidate(epsilon, bonuses=_bonus("episodic", 0.1 * unit))],
    }


def policies(task: Task) -> dict[str, list[Candidate]]:
    """Strategies of ppo, one setting each; bonuses have a value of their own."""
    unit, own = task.unit, {"intrinsic": {"extrinsic_coef": 1}}
    bins = {"hash": "bins", "bins": 20} if "MountainCar" in task.env["id"] else {}
    return {
        "none": [Candidate()],
        "none_raw_observations": [Candidate(env={"wrappers": []})],
        "hashed_count": [Candidate(None, own, _bonus("hashed_count", 10.0 * unit, **bins))],
        "rnd": [Candidate(None, own, _bonus("rnd", 30.0 * unit))],
        "icm": [Candidate(None, own, _bonus("icm", 10.0 * unit))],
        "episodic": [Candidate(None, own, _bonus("episodic", 0.1 * unit))],
    }


def _deep_sea(size: int) -> Task:
    return Task(
        f"One sequence of {size} actions in 2^{size} finds the treasure of 1; every step towards it costs a little.",
        {"id": "rltrain/DeepSea-v0", "kwargs": {"size": size}},
        {"q_learning": 10_000 * size, "dqn": 1_500 * size},
        success=0.9,
        agents={"q_learning": {"learning_rate": 0.5}, "dqn": {"hidden_sizes": [32], "train_freq": 2}},
    )


TASKS = {
    "deep_sea_10": _deep_sea(10),
    "deep_sea_20": _deep_sea(20),
    "river_swim": Task(
        "A small reward downstream at once, a great one after swimming against the current.",
        {"id": "rltrain/RiverSwim-v0"},
        {"q_learning": 100_000},
        top=30.0,
    ),
    "n_chain": Task(
        "Going back pays 2 at once, going on pays 10 at the end of the chain; one move in five goes wrong.",
        {"id": "rltrain/NChain-v0"},
        {"q_learning": 100_000},
        top=300.0,
        unit=10.0,
    ),
    "sparse_grid": Task(
        "Four rooms of 8x8 cells: nothing pays before a key was found in one and the goal in another.",
        {"id": "rltrain/SparseGrid-v0", "kwargs": {"room": 8}},
        {"q_learning": 500_000},
        success=0.9,
        agents={"q_learning": {"learning_rate": 0.5}},
    ),
    "frozen_lake_8x8": Task(
        "Slippery ice, one reward at the far corner.",
        {"id": "FrozenLake8x8-v1"},
        {"q_learning": 1_000_000},
        success=0.8,
        agents={"q_learning": {"gamma": 0.999}},
    ),
    "cliff_walking": Task(
        "A short way along a cliff: a fall costs 100.",
        {"id": "CliffWalking-v1", "max_episode_steps": 200},
        {"q_learning": 50_000},
        success=-13.0,
        top=0.0,
        unit=10.0,
        agents={"q_learning": {"learning_rate": 0.5, "gamma": 1.0}},
    ),
    "mountain_car": Task(
        "Every step costs 1 until the car is on the hill; undirected pushes do not bring it there.",
        {"id": "MountainCar-v0"},
        {"dqn": 60_000, "ppo": 100_000},
        success=-199.0,
        bar=-160.0,
        agents={
            "dqn": {"buffer_size": 60_000, "learning_starts": 1_000, "n_step": 5, "train_freq": 8, "gradient_steps": 2}
            | {"target_update_interval": 500}
        },
        envs={
            "dqn": {"num_envs": 8},
            "ppo": {"num_envs": 16, "wrappers": [{"name": "normalize_observation"}]},
        },
    ),
}

STRATEGIES: dict[str, Callable[[Task], dict[str, list[Candidate]]]] = {
    "q_learning": tables,
    "dqn": deep_values,
    "ppo": policies,
}

AGENTS: dict[str, Block] = {
    "q_learning": {"name": "q_learning"},
    "dqn": {"name": "dqn", "learning_rate": 1e-3, "batch_size": 64, "learning_starts": 200, "double": True}
    | {"train_freq": 1, "target_update_interval": 100},
    "ppo": {"name": "ppo", "learning_rate": 1e-3, "n_steps": 64, "batch_size": 256, "n_epochs": 4},
}


def configuration(task: Task, agent: str, candidate: Candidate, seed: int) -> Block:
    """What `rltrain train` would get."""
    config: Block = {
        "env": task.env | task.envs.get(agent, {}) | candidate.env,
        "agent": AGENTS[agent] | task.agents.get(agent, {}) | candidate.agent,
        "bonuses": list(candidate.bonuses),
        "train": {"total_steps": task.steps[agent]},
        "seed": seed,
        "device": "cpu",
    }
    return config | ({} if candidate.exploration is None else {"exploration": candidate.exploration})

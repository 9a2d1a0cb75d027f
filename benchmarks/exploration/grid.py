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
    success: float | None
    """Return of an episode that is a success, and of a final policy that has solved the task; None where rewards are
    everywhere and only regret tells."""
    steps: dict[str, int]
    """Agent -> environment steps, the budget."""
    unit: float = 1.0
    """A return that matters here: the scale of bonuses, margins and priors of tables."""
    top: float = 1.0
    """An optimistic action value."""
    table: Block = field(default_factory=dict)
    """Settings of q_learning beside the common ones."""


@dataclass(frozen=True)
class Candidate:
    """Blocks that a strategy adds to the configuration."""

    exploration: Block | None
    agent: Block = field(default_factory=dict)
    bonuses: tuple[Block, ...] = ()


def _named(name: str, **choices: Any) -> list[Block]:
    """Blocks of a component, one for every combination of lists in `choices`."""
    lists = [value if isinstance(value, list) else [value] for value in choices.values()]
    return [{"name": name, **dict(zip(choices, values, strict=True))} for values in product(*lists)]


def _bonuses(name: str, scale: float, **settings: Any) -> tuple[Block, ...]:
    return ({"name": name, "scale": scale, **settings},)


def _dither(epsilon: float) -> Block:
    return {"name": "epsilon_greedy", "epsilon": epsilon}


def _epsilons(steps: int) -> list[Any]:
    return [0.05, 0.2, {"schedule": "linear", "start": 1.0, "end": 0.05, "steps": steps // 2}]


def tables(task: Task) -> dict[str, list[Candidate]]:
    """Strategies of q_learning."""
    unit, top, epsilons = task.unit, task.top, _epsilons(task.steps["q_learning"])
    optimism = {"initial_value": top}
    selectors: dict[str, list[Block]] = {
        "greedy": _named("greedy"),
        "epsilon_greedy": _named("epsilon_greedy", epsilon=epsilons),
        "epsilon_z_greedy": _named("epsilon_z_greedy", epsilon=epsilons),
        "boltzmann": _named("boltzmann", temperature=[0.03, 0.1, 0.3, 1.0], normalize=True),
        "max_boltzmann": _named("max_boltzmann", temperature=[0.1, 1.0], normalize=True, epsilon=epsilons),
        "ucb": _named("ucb", c=[unit * c for c in (0.03, 0.1, 0.3, 1.0, 3.0)]),
    }
    found = {name: [Candidate(block) for block in blocks] for name, blocks in selectors.items()}
    found["optimistic"] = [Candidate({"name": "greedy"}, optimism)]
    found["ucb_optimistic"] = [Candidate(block, optimism) for block in selectors["ucb"]]
    posterior = _named("thompson", prior_mean=top, prior_std=[top / 3, top], noise_std=[unit / 30, unit / 10, unit / 3])
    found["thompson"] = [Candidate(block, optimism) for block in posterior]
    # a pair that was never tried is believed to be worth the bonus of a first visit
    found["count"] = [
        Candidate(_dither(epsilon), {"initial_value": unit * scale}, _bonuses("count", unit * scale, over=over))
        for over, scale, epsilon in product(("state", "state_action"), (0.01, 0.1, 1.0), (0.0, 0.05))
    ]
    return found


DQN = {"name": "dqn", "hidden_sizes": [64, 64], "learning_rate": 1e-3, "batch_size": 64, "learning_starts": 200}
DQN |= {"target_update_every": 100, "train_every": 1, "double": True}


def deep_values(task: Task) -> dict[str, list[Candidate]]:
    """Strategies of dqn, one setting each."""
    annealed = {"schedule": "linear", "start": 1.0, "end": 0.05, "steps": task.steps["dqn"] // 4}
    greedy, epsilon = {"name": "greedy"}, {"name": "epsilon_greedy", "epsilon": annealed}
    return {
        "epsilon_greedy": [Candidate(epsilon)],
        "epsilon_z_greedy": [Candidate(epsilon | {"name": "epsilon_z_greedy"})],
        "boltzmann": [Candidate({"name": "boltzmann", "temperature": 0.1, "normalize": True})],
        "bootstrapped": [Candidate({"name": "thompson"}, {"heads": 10, "prior_scale": 3.0})],
        "hashed_count": [Candidate(greedy, bonuses=_bonuses("hashed_count", 0.1))],
        "rnd": [Candidate(greedy, bonuses=_bonuses("rnd", 0.1))],
    }


def _deep_sea(size: int) -> Task:
    return Task(
        f"One sequence of {size} actions in 2^{size} finds the treasure of 1; every step towards it costs a little.",
        {"id": "rltrain/DeepSea-v0", "kwargs": {"size": size}},
        success=0.9,
        steps={"q_learning": 10_000 * size, "dqn": 2_000 * size},
        table={"learning_rate": 0.5, "gamma": 1.0},
    )


TASKS = {
    "deep_sea_10": _deep_sea(10),
    "deep_sea_20": _deep_sea(20),
    "river_swim": Task(
        "A small reward downstream at once, a great one after swimming against the current.",
        {"id": "rltrain/RiverSwim-v0"},
        success=None,
        steps={"q_learning": 100_000},
        top=30.0,
    ),
    "n_chain": Task(
        "Going back pays 2 at once, going on pays 10 at the end of the chain; one move in five goes wrong.",
        {"id": "rltrain/NChain-v0"},
        success=None,
        steps={"q_learning": 100_000},
        top=300.0,
        unit=10.0,
    ),
    "sparse_grid": Task(
        "Four rooms: nothing pays before the key was found in one and the goal in another.",
        {"id": "rltrain/SparseGrid-v0"},
        success=0.9,
        steps={"q_learning": 500_000},
    ),
    "frozen_lake_8x8": Task(
        "Slippery ice, one reward at the far corner.",
        {"id": "FrozenLake8x8-v1"},
        success=0.8,
        steps={"q_learning": 1_000_000},
        table={"gamma": 0.999},
    ),
    "cliff_walking": Task(
        "A short way along a cliff: exploring costs 100 a fall.",
        {"id": "CliffWalking-v1", "max_episode_steps": 200},
        success=-13.0,
        steps={"q_learning": 50_000},
        top=0.0,
        unit=10.0,
        table={"learning_rate": 0.5, "gamma": 1.0},
    ),
}

STRATEGIES: dict[str, Callable[[Task], dict[str, list[Candidate]]]] = {"q_learning": tables, "dqn": deep_values}

AGENTS: dict[str, Block] = {"q_learning": {"name": "q_learning"}, "dqn": DQN}


def configuration(task: Task, agent: str, candidate: Candidate, seed: int) -> Block:
    """What `rltrain train` would get."""
    own = task.table if agent == "q_learning" else {}
    config: Block = {
        "env": task.env,
        "agent": AGENTS[agent] | own | candidate.agent,
        "bonuses": list(candidate.bonuses),
        "train": {"total_steps": task.steps[agent]},
        "seed": seed,
    }
    return config | ({} if candidate.exploration is None else {"exploration": candidate.exploration})

"""One run, looked at a hundred times: what it found, when, and what it cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from rltrain.config.load import from_dict
from rltrain.core import Progress
from rltrain.envs.vector import wrapper_state
from rltrain.evaluator import Evaluator
from rltrain.exact import ExactEvaluator
from rltrain.experiment import Experiment, build
from rltrain.seeding import Stream, env_seeds

LOOKS = 100
EPISODES = 100
"""Greedy episodes on which a final policy is judged where the environment does not tell its model."""


def one_run(data: dict[str, Any], success: float | None) -> dict[str, Any]:
    """Train, and report.

    Returns:
        first_success: steps until the first episode with a return of `success` ended, in several environments until
            the look after it; None without any.
        curve: mean return of the episodes that ended since the look before, LOOKS of them; NaN where none ended.
        learning_return: mean return of all episodes, which is the area under the curve by the budget.
        final: what the final greedy policy is worth, exactly where the model is known.
        regret: episodes x optimum - sum of returns, where the model is known.
    """
    experiment = build(from_dict(data).config)
    total, success = experiment.config.train.total_steps, np.inf if success is None else success
    returns: list[float] = []
    lengths: list[int] = []
    curve: list[float] = []
    first = None
    for look in range(1, LOOKS + 1):
        began = experiment.loop.steps
        goal = total * look // LOOKS
        progress = experiment.loop.advance(goal - began) if goal > began else Progress(began)
        returns, lengths = returns + progress.returns, lengths + progress.lengths
        curve.append(float(np.mean(progress.returns)) if progress.returns else float("nan"))
        if first is None and max(progress.returns, default=-np.inf) >= success:
            before = int(np.argmax(np.array(returns) >= success))
            alone = experiment.spec.num_envs == 1  # then one episode follows the other
            first = sum(lengths[: before + 1]) if alone else progress.steps
    figures = final_policy(experiment)
    experiment.envs.close()
    row = {
        "seed": data["seed"],
        "first_success": first,
        "final": figures["final"],
        "curve": np.round(curve, 4).tolist(),
    }
    row["learning_return"] = float(np.mean(returns)) if returns else float("nan")
    if "optimum" in figures:
        row["regret"] = len(returns) * figures["optimum"] - float(np.sum(returns))
    return row


def final_policy(experiment: Experiment) -> dict[str, float]:
    """The value of the greedy policy, and of the best one where the model is known."""
    config, spec, agent = experiment.config, experiment.spec, experiment.agent
    evaluator = Evaluator(config, spec, agent)
    horizon = evaluator.protocol.max_episode_steps
    if spec.model is not None:
        gamma = getattr(config.agent, "gamma", 1.0)
        states = np.arange(spec.model.states)
        figures = ExactEvaluator(spec.model, gamma=gamma, horizon=horizon)(agent.act(states, explore=False))
        return {"final": figures["exact_return"], "optimum": figures["time_aware_return"]}
    seeds = env_seeds(config.seed, Stream.REPORT_EVAL, EPISODES)
    found = {"final": float(evaluator(seeds, wrapper_state(experiment.envs))["return_mean"])}
    evaluator.close()
    return found

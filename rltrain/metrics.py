"""The names under which a run logs what it is worth, and of which of them more is better."""

from __future__ import annotations

RISING = ("return", "success_rate", "percent_of_optimal", "optimal_action_share")
"""Words in the names of metrics of which more is better; of others it is only said which is higher."""
EXACT = ("exact_return", "percent_of_optimal", "optimal_action_share", "value_error")
"""What an evaluation tells beside its episodes, where the environment tells its model."""
EXACT_METRICS = tuple(f"eval/{name}" for name in EXACT)
EVALUATION = ("eval/return", "eval/return_iqm", "eval/length", "eval/success_rate", *EXACT_METRICS)
"""All that an evaluation logs."""
CONFIRMED = "eval/return_confirmed"
"""What confirms that a run may stop early."""
EPISODES = ("rollout/return", "rollout/length", "rollout/success_rate", "rollout/episodes", "rollout/lost_episodes")
"""All that is logged of the episodes of training."""
OWN = ("eval/", "rollout/")
"""How the names of these begin, and no others; an agent and an exploration log whatever they like beside them."""
KNOWN = (*EVALUATION, CONFIRMED, *EPISODES)


def rises(metric: str) -> bool:
    """Whether more of it is better."""
    return any(word in metric for word in RISING)

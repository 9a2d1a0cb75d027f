"""The tabular rules as one writes them without a library: what benchmarks/tabular_speed.py compares with.

A loop over `gymnasium.make(...)`, tables in NumPy, one function a rule. A selection is made for one run
and then gives an action for a row of values; one that counts visits counts them itself, so that the others
do not pay for it. Tables begin with small random values: `np.argmax` gives ties to the lowest index, and
from zeros an epsilon-greedy agent would push against the left shore of FrozenLake for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

LEARNING_RATE, GAMMA = 0.1, 0.99
EPSILON, TEMPERATURE = 0.1, 0.1
UCB_C = np.sqrt(2)
PRIOR_STD = NOISE_STD = 1.0
LAMBDA, N_STEP, PLANNING_STEPS = 0.9, 4, 10
INITIAL = 1e-3

Choose = Callable[[Any, int], Any]


def epsilon_greedy(states: int, actions: int, rng: np.random.Generator) -> Choose:
    """A random action with probability epsilon, else the best."""

    def choose(row: Any, state: int) -> Any:
        if rng.random() < EPSILON:
            return rng.integers(actions)
        return np.argmax(row)

    return choose


def boltzmann(states: int, actions: int, rng: np.random.Generator) -> Choose:
    """By exp(Q / T). `rng.choice(actions, p=...)` takes twice as long as cumsum and searchsorted."""

    def choose(row: Any, state: int) -> Any:
        cumulative = np.cumsum(np.exp((row - np.max(row)) / TEMPERATURE))
        return np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")

    return choose


def ucb(states: int, actions: int, rng: np.random.Generator) -> Choose:
    """The greatest upper confidence bound; what was never taken goes first."""
    visits = np.zeros((states, actions))

    def choose(row: Any, state: int) -> Any:
        counts = visits[state]
        if np.min(counts) == 0:
            action = np.argmin(counts)
        else:
            action = np.argmax(row + UCB_C * np.sqrt(np.log(np.sum(counts)) / counts))
        counts[action] += 1
        return action

    return choose


def thompson(states: int, actions: int, rng: np.random.Generator) -> Choose:
    """The best of one draw from each action's Gaussian posterior, the prior mean being 0."""
    visits = np.zeros((states, actions))

    def choose(row: Any, state: int) -> Any:
        precision = 1 / PRIOR_STD**2 + visits[state] / NOISE_STD**2
        mean = visits[state] / NOISE_STD**2 * row / precision
        action = np.argmax(rng.normal(mean, 1 / np.sqrt(precision)))
        visits[state, action] += 1
        return action

    return choose


def epsilon_greedy_probabilities(row: Any) -> Any:
    """The distribution that `epsilon_greedy` draws from."""
    policy = np.full(len(row), EPSILON / len(row))
    policy[np.argmax(row)] += 1 - EPSILON
    return policy


def boltzmann_probabilities(row: Any) -> Any:
    """The distribution that `boltzmann` draws from."""
    weights = np.exp((row - np.max(row)) / TEMPERATURE)
    return weights / np.sum(weights)


SELECTIONS = {"epsilon_greedy": epsilon_greedy, "boltzmann": boltzmann, "ucb": ucb, "thompson": thompson}
PROBABILITIES = {"epsilon_greedy": epsilon_greedy_probabilities, "boltzmann": boltzmann_probabilities}


def begin(env_id: str, selection: str, seed: int, limit: int | None) -> tuple[Any, Any, Choose, np.random.Generator]:
    """The environment, a fresh table, and how an action is chosen."""
    env = gym.make(env_id, max_episode_steps=limit)
    states, actions = env.observation_space.n, env.action_space.n  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    return env, INITIAL * rng.random((states, actions)), SELECTIONS[selection](states, actions, rng), rng


def q_learning(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Towards the reward and the best that can follow."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    state, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = choose(q[state], state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        target = reward if terminated else reward + GAMMA * np.max(q[next_state])
        q[state, action] += LEARNING_RATE * (target - q[state, action])
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()
    return q


def sarsa(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Towards the reward and the value of the action that is taken next."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    state, _ = env.reset(seed=seed)
    action = choose(q[state], state)
    for _ in range(steps):
        next_state, reward, terminated, truncated, _ = env.step(action)
        next_action = choose(q[next_state], next_state)
        target = reward if terminated else reward + GAMMA * q[next_state, next_action]
        q[state, action] += LEARNING_RATE * (target - q[state, action])
        state, action = next_state, next_action
        if terminated or truncated:
            state, _ = env.reset()
            action = choose(q[state], state)
    return q


def expected_sarsa(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Towards the reward and what the policy can expect after it."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    probabilities = PROBABILITIES[selection]
    state, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = choose(q[state], state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        target = reward
        if not terminated:
            target += GAMMA * np.dot(probabilities(q[next_state]), q[next_state])
        q[state, action] += LEARNING_RATE * (target - q[state, action])
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()
    return q


def double_q_learning(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """One table chooses the best next action, the other values it. Acts on their mean."""
    env, one, choose, rng = begin(env_id, selection, seed, limit)
    two = INITIAL * rng.random(one.shape)
    state, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = choose((one[state] + two[state]) / 2, state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        learner, judge = (one, two) if rng.random() < 0.5 else (two, one)
        target = reward
        if not terminated:
            target += GAMMA * judge[next_state, np.argmax(learner[next_state])]
        learner[state, action] += LEARNING_RATE * (target - learner[state, action])
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()
    return (one + two) / 2


def n_step_sarsa(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Towards n rewards and the value of the pair reached then."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    waiting: deque[tuple[int, Any, float]] = deque()
    state, _ = env.reset(seed=seed)
    action = choose(q[state], state)
    for _ in range(steps):
        next_state, reward, terminated, truncated, _ = env.step(action)
        next_action = choose(q[next_state], next_state)
        waiting.append((state, action, reward))
        beyond, done = 0.0 if terminated else q[next_state, next_action], terminated or truncated
        while len(waiting) == N_STEP or (done and waiting):
            target = beyond
            for _, _, later in reversed(waiting):
                target = later + GAMMA * target
            old_state, old_action, _ = waiting.popleft()
            q[old_state, old_action] += LEARNING_RATE * (target - q[old_state, old_action])
        state, action = next_state, next_action
        if done:
            state, _ = env.reset()
            action = choose(q[state], state)
    return q


def sarsa_lambda(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """SARSA with a replacing trace for every pair."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    trace = np.zeros_like(q)
    state, _ = env.reset(seed=seed)
    action = choose(q[state], state)
    for _ in range(steps):
        next_state, reward, terminated, truncated, _ = env.step(action)
        next_action = choose(q[next_state], next_state)
        target = reward if terminated else reward + GAMMA * q[next_state, next_action]
        trace[state, action] = 1.0
        q += LEARNING_RATE * (target - q[state, action]) * trace
        trace *= GAMMA * LAMBDA
        state, action = next_state, next_action
        if terminated or truncated:
            trace[:] = 0.0
            state, _ = env.reset()
            action = choose(q[state], state)
    return q


def watkins_q_lambda(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Q-learning with replacing traces, cut where the next action is not the best."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    trace = np.zeros_like(q)
    state, _ = env.reset(seed=seed)
    action = choose(q[state], state)
    for _ in range(steps):
        next_state, reward, terminated, truncated, _ = env.step(action)
        next_action, best = choose(q[next_state], next_state), np.max(q[next_state])
        greedy = q[next_state, next_action] == best
        target = reward if terminated else reward + GAMMA * best
        trace[state, action] = 1.0
        q += LEARNING_RATE * (target - q[state, action]) * trace
        if greedy:
            trace *= GAMMA * LAMBDA
        else:
            trace[:] = 0.0
        state, action = next_state, next_action
        if terminated or truncated:
            trace[:] = 0.0
            state, _ = env.reset()
            action = choose(q[state], state)
    return q


def monte_carlo(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Towards the return after a pair's first visit; what a time limit cuts off is worth Q of the next pair."""
    env, q, choose, _ = begin(env_id, selection, seed, limit)
    episode: list[tuple[int, Any, float]] = []
    state, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = choose(q[state], state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        episode.append((state, action, reward))
        state = next_state
        if terminated or truncated:
            total = 0.0 if terminated else q[state, choose(q[state], state)]
            first: dict[tuple[int, Any], int] = {}
            for time, (then, taken, _) in enumerate(episode):
                first.setdefault((then, taken), time)
            for time in range(len(episode) - 1, -1, -1):
                then, taken, paid = episode[time]
                total = paid + GAMMA * total
                if first[then, taken] == time:
                    q[then, taken] += LEARNING_RATE * (total - q[then, taken])
            episode = []
            state, _ = env.reset()
    return q


def dyna_q(env_id: str, selection: str, steps: int, seed: int, limit: int | None = None) -> Any:
    """Q-learning, and ten updates a step from what the model remembers."""
    env, q, choose, rng = begin(env_id, selection, seed, limit)
    model: dict[tuple[int, int], tuple[float, int, bool]] = {}
    pairs: list[tuple[int, int]] = []
    state, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = int(choose(q[state], state))
        next_state, reward, terminated, truncated, _ = env.step(action)
        if (state, action) not in model:
            pairs.append((state, action))
        model[state, action] = reward, next_state, terminated
        target = reward if terminated else reward + GAMMA * np.max(q[next_state])
        q[state, action] += LEARNING_RATE * (target - q[state, action])
        for index in rng.integers(len(pairs), size=PLANNING_STEPS):
            s, a = pairs[index]
            r, s2, over = model[s, a]
            target = r if over else r + GAMMA * np.max(q[s2])
            q[s, a] += LEARNING_RATE * (target - q[s, a])
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()
    return q


RULES = {
    rule.__name__: rule
    for rule in (q_learning, sarsa, expected_sarsa, double_q_learning, n_step_sarsa, sarsa_lambda, watkins_q_lambda,
                 monte_carlo, dyna_q)
}  # fmt: skip

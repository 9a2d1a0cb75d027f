"""Frames stored once, against a buffer that stores every observation whole."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain import replay as replay_module
from rltrain.core import EnvSpec, Transition
from rltrain.replay import ReplayBuffer, required_bytes

SIDE = 3


def spec(num_envs, stack):
    shape = (stack, SIDE, SIDE) if stack > 1 else (SIDE, SIDE)
    return EnvSpec(
        "Screen-v0", gym.spaces.Box(0, 255, shape, np.uint8), gym.spaces.Discrete(3), num_envs, frame_stack=stack
    )


def both(monkeypatch, capacity, num_envs, stack, n_step):
    """A buffer of frames, and one that knows nothing of images, with equal generators."""
    made = [
        lambda: ReplayBuffer(capacity, spec(num_envs, stack), gamma=0.9, n_step=n_step, rng=np.random.default_rng(1))
    ] * 2
    frames = made[0]()
    with monkeypatch.context() as patch:
        patch.setattr(replay_module, "is_image", lambda space: False)
        return frames, made[1]()


def episodes(rng, num_envs, stack, start, mean_length):
    """Vector steps of random frames; a new episode's stack is filled with zeros, copies, frames, or what was seen last."""

    def frame():
        shades = 2 if num_envs == 3 else 256  # of two shades, a frame is often the same as the one before
        return np.full((SIDE, SIDE), rng.integers(shades), np.uint8)

    def begin(seen):
        if start == "goes on" and seen is not None:
            return seen
        blank = {"zeros": lambda: np.zeros((SIDE, SIDE), np.uint8), "frames": frame}.get(start)
        first = frame()
        return np.stack([*(first if blank is None else blank() for _ in range(stack - 1)), first])

    stacks = [begin(None) for _ in range(num_envs)]
    while True:
        obs = np.stack(stacks)
        stacks = [np.stack([*each[1:], frame()]) for each in stacks]
        next_obs = np.stack(stacks)
        terminated, truncated = (rng.random(num_envs) < 0.5 / mean_length for _ in range(2))
        shown = (obs, next_obs) if stack > 1 else (obs[:, 0], next_obs[:, 0])
        reward = rng.normal(size=num_envs).astype(np.float32)
        yield Transition(shown[0], rng.integers(0, 3, num_envs), reward, shown[1], terminated, truncated)
        stacks = [begin(each) if over else each for each, over in zip(stacks, terminated | truncated, strict=True)]


def same(first, second, size=32):
    for mine, its in zip(first.sample(size), second.sample(size), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("start", ["copies", "zeros", "frames", "goes on"])
@pytest.mark.parametrize(("num_envs", "capacity", "mean_length"), [(1, 7, 5), (3, 50, 2), (4, 33, 12)])
def test_every_batch_is_that_of_a_buffer_that_stores_observations_whole(
    monkeypatch, stack, n_step, start, num_envs, capacity, mean_length
):
    frames, whole = both(monkeypatch, capacity, num_envs, stack, n_step)
    steps = episodes(np.random.default_rng(0), num_envs, stack, start, mean_length)
    for step in range(100):
        transition = next(steps)
        for buffer in (frames, whole):
            buffer.add(transition)
        if step == 60:  # goes on from its state, whose frames are numbered anew
            resumed = both(monkeypatch, capacity, num_envs, stack, n_step)[0]
            for _ in range(5):
                resumed.add(next(episodes(np.random.default_rng(9), num_envs, stack, start, 3)))
            resumed.load_state_dict(frames.state_dict())
            for mine, its in zip(leaves(frames.state_dict()), leaves(resumed.state_dict()), strict=True):
                np.testing.assert_array_equal(mine, its)
            frames = resumed
        if step % 5 == 0 and len(whole):
            assert len(frames) == len(whole)
            same(frames, whole)
    assert len(frames) == capacity


def leaves(state):
    if isinstance(state, dict):
        return [leaf for key in sorted(state) if key != "rng" for leaf in leaves(state[key])]
    return [leaf for item in state for leaf in leaves(item)] if isinstance(state, list) else [np.asarray(state)]


@pytest.mark.parametrize(("stack", "n_step"), [(4, 1), (4, 20), (2, 9)])
def test_an_observation_that_does_not_follow_from_the_last_is_stored_whole(monkeypatch, stack, n_step):
    frames, whole = both(monkeypatch, 20, 1, stack, n_step)
    rng, no, steps = np.random.default_rng(0), np.array([False]), episodes(np.random.default_rng(0), 1, stack, "", 40)
    for step in range(160):  # at first a frame each, as of any stack; then nothing is ever seen twice
        obs, next_obs = rng.integers(0, 256, (2, 1, stack, SIDE, SIDE), np.uint8)
        other = Transition(obs, np.array([0]), np.zeros(1, np.float32), next_obs, no, no)
        transition = next(steps) if step < 80 else other
        for buffer in (frames, whole):
            buffer.add(transition)
        if step > 80:
            same(frames, whole, 64)


def test_a_frame_is_stored_once_and_so_is_it_in_a_checkpoint():
    """A frame for every transition since the oldest was stored, one more where an episode begins, and the reach."""
    buffer, ends = ReplayBuffer(400, spec(2, 4), gamma=0.9, rng=np.random.default_rng(0)), []
    steps = episodes(np.random.default_rng(0), 2, 4, "copies", 40)
    for _ in range(1_000):
        buffer.add(transition := next(steps))
        ends.append(int((transition.terminated | transition.truncated).sum()))
    store, reach = buffer._frames, 2 * (1 + 4) * 2 * 4
    kept = store._filled - store._needed
    assert kept == reach + 2 * 199 + sum(ends[800:999])
    assert kept <= len(buffer.state_dict()["frames"]["frames"]) <= kept + reach


def test_what_is_said_to_be_required_is_what_frames_and_rows_take():
    made = spec(2, 4)
    buffer = ReplayBuffer(400, made, gamma=0.9, n_step=3, rng=np.random.default_rng(0))
    store, slots = buffer._frames, 400 + 2 * (3 + 4) * 2 * 4
    for_frames = [part.nbytes / len(part) * slots for part in (store._frames, store._before, store._queue)]
    for_rows = [store._born.nbytes, *(column.nbytes for column in buffer._columns.values())]
    assert required_bytes(400, made, n_step=3) == sum(for_frames) + sum(for_rows)
    assert store._frames.dtype == np.uint8


def test_a_state_that_is_held_outlives_the_growth_of_what_it_shows():
    buffer = ReplayBuffer(40, spec(1, 1), gamma=0.9, rng=np.random.default_rng(0))
    frames = buffer._frames
    steps = episodes(np.random.default_rng(0), 1, 1, "copies", 1)  # short ones have many frames
    for _ in range(20):
        buffer.add(next(steps))
    state = buffer.state_dict()["frames"]["frames"]
    assert np.shares_memory(state, frames._frames)
    size = len(frames._frames)
    while len(frames._frames) == size:
        buffer.add(next(steps))
    assert not np.shares_memory(state, frames._frames)
    np.testing.assert_array_equal(state, frames._frames[: len(state)])  # nothing was overwritten yet
    del state


def test_a_million_transitions_of_atari_take_seven_gigabytes():
    screen = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    atari = EnvSpec("ALE/Pong-v5", screen, gym.spaces.Discrete(6), 8, frame_stack=4)
    assert 84 * 84 * 1e6 < required_bytes(1_000_000, atari, n_step=3) < 7.11e9
    assert required_bytes(1_000_000, EnvSpec("Stacks-v0", screen, gym.spaces.Discrete(6), 8)) > 28e9  # no frames known


def test_a_user_is_told_what_a_large_replay_takes():
    from rltrain.registry import settings_class

    screen = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    atari = EnvSpec("ALE/Pong-v5", screen, gym.spaces.Discrete(6), 1, frame_stack=4)
    told = {
        size: list(settings_class("agents", "dqn")(name="dqn", hidden_sizes=[512], buffer_size=size).notes(atari))
        for size in (10**3, 10**6)
    }
    assert told == {10**3: [], 10**6: ["replay of 1,000,000 transitions takes 6.6 GiB when it is full"]}

"""Atari: the frames of ale-py's own vector, honest scores, lives, and episodes that can be repeated."""

import numpy as np
import pytest

pytest.importorskip("ale_py", reason="needs the extra atari: pip install 'rltrain[atari]'")

from rltrain.config.load import from_dict
from rltrain.config.schema import EnvSettings
from rltrain.envs.episode import GOES_ON
from rltrain.envs.vector import begin, call, describe, make_vector, restore, snapshot
from rltrain.evaluation import run_episodes
from rltrain.evaluator import at_once
from rltrain.experiment import build
from rltrain.fitting import problems


def settings(game="Breakout", num_envs=2, **atari):
    return EnvSettings(id=f"ALE/{game}-v5", num_envs=num_envs, atari={"threads": 1, **atari})


def actions(seed, steps, num_envs, count=4):
    return np.random.default_rng(seed).integers(0, count, (steps, num_envs))


def play(envs, acts):
    """Observations, rewards, ends and infos of so many steps; what is over begins anew."""
    seen = []
    for act in acts:
        obs, reward, terminated, truncated, info = envs.step(act)
        seen.append((obs.copy(), reward.copy(), terminated | truncated, info))
        if (done := terminated | truncated).any():
            envs.reset(options={"reset_mask": done})
    return seen


def test_frames_and_rewards_are_those_of_ale_pys_own_vector():
    from ale_py.vector_env import AtariVectorEnv

    mine = make_vector(settings("Assault", clip_reward=False, sticky_actions=0.25))
    first, _ = begin(mine, [3, 4])
    its = AtariVectorEnv("assault", 2, num_threads=1, reward_clipping=False, repeat_action_probability=0.25)
    obs, _ = its.reset(seed=mine.unwrapped._seeds)
    np.testing.assert_array_equal(first, obs)
    paid = 0
    for act in actions(0, 60, 2, 7):
        a, b = mine.step(act), its.step(act)
        for part, other in zip(a[:4], b[:4], strict=True):
            np.testing.assert_array_equal(part, other)
        paid += a[1].max()
    assert paid > 1  # a hit is worth 21
    assert describe(settings(), mine).frame_stack == 4
    assert describe(settings(frame_skip=3), mine).max_episode_steps == 36_000


def test_rewards_are_cut_in_training_only_and_scores_never():
    envs, judged = make_vector(settings("Assault")), make_vector(settings("Assault"), training=False)
    begin(envs, [1, 2]), begin(judged, [1, 2])
    acts = actions(0, 80, 2, 7)
    cut, whole = (np.array([step[1] for step in play(each, acts)]) for each in (envs, judged))
    assert set(np.unique(cut)) == {0, 1}
    np.testing.assert_array_equal(cut, np.clip(whole, -1, 1))
    assert call(envs, "running_return") == tuple(whole.sum(0)) == call(judged, "running_return")


def test_screens_of_a_step_stay_as_they_are_so_that_the_loop_need_not_copy_them():
    made = build(
        from_dict(
            {
                "env": {"id": "ALE/Pong-v5", "num_envs": 2, "atari": {"threads": 1, "size": 36}},
                "agent": {"name": "dqn", "hidden_sizes": [4], "buffer_size": 200, "learning_starts": 150},
                "exploration": {"name": "epsilon_greedy", "epsilon": 1.0},
                "train": {"total_steps": 10_000},
                "device": "cpu",
            }
        ).config
    )
    seen, kept, observe = [], [], made.agent.observe

    def watch(transition):
        seen.append(transition.next_obs)
        kept.append(transition.next_obs.copy())
        observe(transition)

    made.agent.observe = watch
    made.loop.advance(60)
    assert seen[-1] is made.envs._obs
    np.testing.assert_array_equal(np.array(seen), np.array(kept))


def test_a_lost_life_ends_the_episode_for_the_agent_while_the_game_and_its_score_go_on():
    acts = actions(0, 320, 2)
    seen = {}
    for life_loss in (False, True):
        envs = make_vector(settings(life_loss=life_loss))
        begin(envs, [1, 2])
        seen[life_loss] = play(envs, acts)
    for (obs, reward, _, _), (other, its, _, _) in zip(seen[False], seen[True], strict=True):
        np.testing.assert_array_equal(obs, other)  # the very same game
        np.testing.assert_array_equal(reward, its)
    whole, lives = (np.array([step[2] for step in seen[life_loss]]) for life_loss in (False, True))
    assert whole.any(0).all()
    assert (lives & whole == whole).all()
    first = whole.argmax(0)  # the step in which the first game of each is over
    assert [lives[: first[env] + 1, env].sum() for env in range(2)] == [5, 5]  # four lives, and the last
    told = [(step, info[GOES_ON]) for step, (*_, info) in enumerate(seen[True]) if GOES_ON in info]
    assert sum(mask.sum() for _, mask in told) == (lives & ~whole).sum()
    score = np.array([step[1] for step in seen[False]])[: first[0] + 1, 0].sum()
    assert seen[True][first[0]][3]["episode_return"][0] == score > 0
    assert seen[True][first[0]][3]["episode_length"][0] == first[0] + 1


def test_in_an_evaluation_a_lost_life_ends_nothing():
    ends = {}
    for training in (True, False):
        envs = make_vector(settings(life_loss=True), training=training)
        begin(envs, [1, 2])
        ends[training] = np.array([step[2] for step in play(envs, actions(0, 90, 2))])
    assert ends[True].any(0).all()
    assert not ends[False].any()


def test_a_loop_counts_games_and_not_lives():
    made = config("dqn", life_loss=True)
    experiment = build(made)
    progress = experiment.loop.advance(700)
    assert 1 <= len(progress.returns) <= 4
    assert min(progress.lengths) > 100


@pytest.mark.parametrize("few", [1, 2])
def test_an_evaluation_is_decided_by_its_seeds_alone_and_not_by_how_many_games_play_at_once(few):
    policy = lambda obs: (obs.reshape(len(obs), -1).sum(1, dtype=np.int64) % 4).astype(np.int64)  # noqa: E731
    together, parted = (
        run_episodes(policy, make_vector(settings(sticky_actions=0.25), count, training=False), [5, 6, 7], 400)
        for count in (3, few)
    )
    assert parted.returns.tolist() == together.returns.tolist()
    assert parted.lengths.tolist() == together.lengths.tolist()
    assert len(set(together.lengths.tolist())) > 1


def test_no_more_games_are_loaded_for_an_evaluation_than_step_faster_together():
    assert [at_once(settings(), episodes) for episodes in (3, 16, 100)] == [3, 16, 16]
    assert at_once(EnvSettings(id="CartPole-v1"), 100) == 100


@pytest.mark.parametrize(("before", "every"), [(3, 10_000), (260, 10_000), (260, 100)])
def test_open_episodes_are_repeated_exactly_and_so_is_what_follows(before, every, monkeypatch):
    monkeypatch.setattr("rltrain.envs.atari.SEED_FOR", every)
    made = settings(num_envs=3, life_loss=True)
    first, second = make_vector(made), make_vector(made)
    begin(first, [1, 2, 3]), begin(second, [7, 8, 9])
    play(first, actions(0, before, 3)), play(second, actions(5, 9, 3))
    saved, obs = snapshot(first), first.unwrapped._obs.copy()
    now, lost = restore(second, saved, obs, seeds=[7, 8, 9])
    assert lost == []
    np.testing.assert_array_equal(now, obs)
    lengths = {len(each["actions"]) for each in saved["episodes"]}
    assert len(lengths) == (3 if every < before else 1)  # of each since its seed
    assert any(each["resets"] for each in saved["episodes"]) == (lengths == {260})
    acts = actions(1, 230, 3)  # beyond the ends of episodes
    for mine, its in zip(play(first, acts), play(second, acts), strict=True):
        for part, other in zip(mine[:3], its[:3], strict=True):
            np.testing.assert_array_equal(part, other)
    assert call(first, "running_return") == call(second, "running_return")


def test_the_log_of_actions_forgets_closed_episodes_and_grows_for_open_ones(monkeypatch):
    monkeypatch.setattr("rltrain.envs.atari.LOG", 8)
    monkeypatch.setattr("rltrain.envs.atari.SEED_FOR", 30)
    envs = make_vector(settings("Pong"))
    envs.unwrapped._log = np.zeros((8, 2), np.uint8)
    begin(envs, [1, 2])
    acts = actions(0, 30, 2)
    play(envs, acts)
    assert [each["actions"].tolist() for each in call(envs, "snapshot")] == acts.T.tolist()
    envs.reset(options={"reset_mask": np.array([True, True])})
    play(envs, acts)
    assert [each["actions"].tolist() for each in call(envs, "snapshot")] == acts.T.tolist()
    assert len(envs.unwrapped._log) <= 64


def test_an_episode_that_cannot_be_repeated_is_named_and_begins_anew():
    envs = make_vector(settings("Pong"))
    obs, _ = begin(envs, [1, 2])
    saved = snapshot(envs)
    saved["episodes"][0]["obs"] = saved["episodes"][0]["obs"] + 1
    saved["episodes"][1] = {"origin": {"seed": 3}}
    with pytest.warns(UserWarning, match="begins anew") as told:
        _, lost = restore(envs, saved, obs, seeds=[1, 2])
    assert lost == [0, 1]
    assert "does not repeat itself" in str(told[0].message)
    assert "another kind" in str(told[1].message)


def config(agent, **atari):
    small = {
        "dqn": {"batch_size": 4, "learning_starts": 8, "train_freq": 8, "buffer_size": 60, "n_step": 3}
        | {"target_update_interval": 100},
        "ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    }
    return from_dict(
        {
            "env": {"id": "ALE/Breakout-v5", "num_envs": 2, "atari": {"threads": 1, "size": 36, **atari}},
            "agent": {"name": agent, "hidden_sizes": [8], **small[agent]},
            "exploration": {"name": "epsilon_greedy"} if agent == "dqn" else None,
            "train": {"total_steps": 1_000},
            "device": "cpu",
        }
    ).config


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_run_goes_on_exactly(agent):
    made = config(agent, life_loss=True)
    assert problems(made) == []
    first, second = build(made), build(made)
    first.loop.advance(90)
    state = first.agent.state_dict(), first.loop.state_dict()
    second.agent.load_state_dict(state[0])
    second.loop.load_state_dict(state[1])
    for each in (first, second):
        each.loop.advance(90)
    np.testing.assert_array_equal(first.loop.state_dict()["obs"], second.loop.state_dict()["obs"])
    np.testing.assert_array_equal(first.agent.networks[0].parameters, second.agent.networks[0].parameters)


def test_what_the_games_cannot_do_is_said():
    def found(**env):
        made = config("ppo")
        return problems(made.model_copy(update={"env": made.env.model_copy(update=env)}))

    assert [p.path for p in found(vectorization="async")] == ["env.vectorization"]
    assert [p.path for p in found(kwargs={"mode": 1})] == ["env.kwargs"]
    assert "did you mean 'ALE/Pong-v5'" in found(id="PongNoFrameskip-v4")[0].message
    assert "did you mean 'ALE/Pong-v5'" in found(id="ALE/Pang-v5")[0].message
    assert "unknown environment 'Pong', did you mean 'ALE/Pong-v5'" in found(id="Pong")[0].message
    raw = config("ppo").env.model_copy(update={"atari": None})
    assert "`env.atari: {}` takes the usual preprocessing" in next(raw.notes(None))
    assert list(raw.model_copy(update={"id": "CartPole-v1"}).notes(None)) == []
    stacked = from_dict(
        {
            "env": {"id": "ALE/Pong-v5", "atari": {}, "wrappers": [{"name": "frame_stack"}]},
            "agent": {"name": "ppo"},
            "train": {"total_steps": 9_999},
        }
    ).config
    assert "frame_stack needs single environments" in problems(stacked)[0].message


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch):
    import gymnasium as gym

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(gym.envs.registration, "registry", {})
    monkeypatch.setattr(gym, "registry", {})
    assert "pip install 'rltrain[atari]'" in problems(config("ppo"))[0].message


def test_a_picture_is_the_games_screen_in_colour_and_of_the_same_game():
    made = settings("Breakout", sticky_actions=0.25)
    envs = make_vector(made, 2, training=False, render_mode="rgb_array")
    begin(envs, [1, 2])
    play(envs, actions(0, 40, 2))
    envs.reset(options={"reset_mask": np.array([True, False])})
    seen = play(envs, actions(1, 60, 2))
    for env, picture in enumerate(call(envs, "render")):
        assert picture.shape == (630, 480, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5  # the rows of bricks
        screen = picture[::3, ::3]
        grey = screen @ np.array([0.299, 0.587, 0.114])
        rows, columns = (np.linspace(0, side, 85).astype(int) for side in (210, 160))
        means = np.add.reduceat(np.add.reduceat(grey, rows[:-1], 0), columns[:-1], 1)
        means /= np.diff(rows)[:, None] * np.diff(columns)
        assert abs(means - seen[-1][0][env, -1]).mean() < 4  # what the agent sees, but for how it was scaled


def test_with_fire_on_life_loss_a_game_goes_on_by_itself():
    ends = {}
    for fire in (False, True):
        envs = make_vector(settings(num_envs=1, fire_on_life_loss=fire, sticky_actions=0.0), training=False)
        begin(envs, [1])
        ends[fire] = sum(step[2].sum() for step in play(envs, np.zeros((200, 1), int)))  # never presses a button
    assert ends[False] == 0 < ends[True]


def test_what_was_fired_is_repeated_after_a_resume():
    made = settings(fire_on_life_loss=True, life_loss=True, num_envs=2)
    first, second = make_vector(made), make_vector(made)
    begin(first, [1, 2]), begin(second, [3, 4])
    lost = False
    while not lost:  # the open episode ends with a lost life
        lost = bool(first.step(np.zeros(2, int))[4].get(GOES_ON, np.zeros(1)).any())
    first.reset(options={"reset_mask": first.unwrapped._goes_on.copy()})
    restore(second, snapshot(first), first.unwrapped._obs.copy(), seeds=[3, 4])
    for mine, its in zip(play(first, np.zeros((60, 2), int)), play(second, np.zeros((60, 2), int)), strict=True):
        for part, other in zip(mine[:3], its[:3], strict=True):
            np.testing.assert_array_equal(part, other)

"""Random network distillation: what was seen is predicted, what was not is not, and both on a scale of their own."""

import numpy as np
import pytest
import torch
from streams import bonus, spec, step, walk

from rltrain.bonuses.rnd import _squared_error
from rltrain.intrinsic import Gathered, ReturnScale, whitener
from rltrain.nn.optimizers import Diverged


@pytest.mark.parametrize("seed", range(3))
def test_the_error_falls_on_what_was_seen_and_stays_on_what_was_not(seed):
    rng = np.random.default_rng(seed)
    seen, unseen = rng.normal(size=(2, 16, 4)).astype(np.float32)
    part = bonus("rnd", spec(num_envs=16), seed, batch_size=16, learning_rate=1e-3)
    for _ in range(20):  # so that the moments hardly change any more
        part.bonus(step(seen, seen))
    before = [part.errors(part.white(rows)).mean() for rows in (seen, unseen)]
    for _ in range(600):
        part.bonus(step(seen, seen))
    after = [part.errors(part.white(rows)).mean() for rows in (seen, unseen)]
    assert after[0] < 0.01 * before[0]
    assert after[1] > 0.25 * before[1]  # neighbours are learnt along: about a third stays
    assert part.metrics()["loss"] == pytest.approx(after[0], rel=0.5)


def test_the_target_never_changes():
    env = spec(num_envs=4)
    part = bonus("rnd", env, batch_size=4)
    target, predictor = part.target.parameters.copy(), part.predictor.parameters.copy()
    for made in walk(env, 20):
        part.bonus(made)
    assert np.array_equal(part.target.parameters, target)
    assert not np.array_equal(part.predictor.parameters, predictor)
    assert not np.array_equal(target, predictor)


def test_the_bonus_is_the_error_before_learning_divided_by_the_deviation_of_the_discounted_sum():
    env = spec(num_envs=3)
    part = bonus("rnd", env, gamma=0.9, batch_size=7)
    rows, sums, all_sums = [], np.zeros(3), [np.zeros(3)]
    for made in walk(env, 40):
        rows.append(made.next_obs.astype(np.float64))
        seen = np.concatenate(rows)
        white = np.clip((made.next_obs - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-12), -5, 5).astype(np.float32)
        errors = part.errors(white)
        sums = 0.9 * sums + errors
        all_sums.append(sums)
        np.testing.assert_allclose(part.bonus(made), errors / np.std(all_sums), rtol=2e-4)


def test_whitening_is_numpys_and_cut_at_five_deviations():
    rng = np.random.default_rng(0)
    rows = rng.normal(3.0, [1e-3, 1.0, 1e3], (400, 3))
    white = whitener(3)
    for part in np.split(rows, [1, 9, 200]):
        white.update(part)
    np.testing.assert_allclose(white(rows), (rows - rows.mean(0)) / rows.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(white(rows + np.array([0, 1e5, -1e5]))[:, 1:], np.tile([5.0, -5.0], (400, 1)))


def test_the_first_sums_are_compared_with_nothing_yet():
    """Sums 0 and 2 have the deviation 1; then 0, 2 and 0.5 * 2 + 2 = 3 have sqrt(14 / 9)."""
    scale = ReturnScale(1, 0.5)
    assert scale(np.array([2.0])) == pytest.approx(2.0)
    assert scale(np.array([2.0])) == pytest.approx(2 / np.sqrt(14 / 9))
    assert ReturnScale(2, 0.5)(np.zeros(2)).tolist() == [0.0, 0.0]


def test_batches_have_one_size_and_every_row_once_in_order():
    gathered, rows = Gathered(5, 1, 2), np.arange(40.0)
    batches = []
    for part in np.split(rows, [1, 4, 5, 18, 20]):
        batches += [(a.copy(), b.copy()) for a, b in gathered.add(part[:, None], np.stack((part, -part), 1))]
    assert [a[:, 0].tolist() for a, _ in batches] == rows.reshape(8, 5).tolist()
    assert all(np.array_equal(b, np.concatenate((a, -a), 1)) for a, b in batches)


def test_the_gradient_of_the_error_is_autograds():
    outputs, target = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    its = torch.from_numpy(outputs).requires_grad_()
    loss = torch.nn.functional.mse_loss(its, torch.from_numpy(target))
    loss.backward()
    grad, mine = _squared_error(outputs, target)
    assert mine == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(grad, its.grad.numpy(), rtol=1e-5)


def test_a_network_that_diverges_says_which_setting_to_lower():
    part = bonus("rnd", spec(), batch_size=1)
    part.predictor.parameters[:] = np.inf
    with pytest.raises(Diverged, match="the bonus's learning_rate"), np.errstate(all="ignore"):
        part.bonus(step(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32)))

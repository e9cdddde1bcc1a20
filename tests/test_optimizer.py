"""Learning rates over a training's steps, clipping, and decoupled weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dd.optimizer import AdamW, Constant, Cosine, Plateau


def rates(schedule, peak, warmup, total):
    return np.asarray(jax.vmap(schedule.create(peak, warmup, total))(jnp.arange(total + 1)))


@pytest.mark.parametrize("schedule", [Constant(), Cosine(lr_min=1e-5)])
@pytest.mark.parametrize("warmup", [0, 1, 40])
def test_the_rate_rises_linearly_to_its_peak_at_the_end_of_the_warm_up(schedule, warmup):
    """Without a warm-up it is there from the first step."""
    found = rates(schedule, 3e-4, warmup, 200)
    assert found[warmup] == pytest.approx(3e-4)
    assert found[:warmup] == pytest.approx(3e-4 * np.arange(warmup) / max(warmup, 1))
    assert found.max() == pytest.approx(3e-4)


def test_constant_stays_and_cosine_falls_to_its_minimum_on_the_last_step():
    """Not warm-up steps earlier, as in the public code; half-way down in the middle of what follows the warm-up."""
    assert rates(Constant(), 3e-4, 40, 200)[40:] == pytest.approx(3e-4)
    found = rates(Cosine(lr_min=1e-5), 3e-4, 40, 200)
    assert found[200] == pytest.approx(1e-5, rel=1e-4)
    assert found[199] > 1.001e-5
    assert found[120] == pytest.approx((3e-4 + 1e-5) / 2, rel=1e-4)
    assert (np.diff(found[40:]) < 0).all()


def test_a_training_shorter_than_its_warm_up_is_still_in_it():
    assert rates(Cosine(), 1e-3, 1000, 2) == pytest.approx([0, 1e-6, 2e-6], rel=1e-4)


def is_adam(state):
    return hasattr(state, "mu")


def steps(optimizer, gradients, params):
    tx = optimizer.create(total_steps=10)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_gradients_are_clipped_by_their_global_norm():
    """(30, 40) and (0.6, 0.8) in two leaves at clip 1: Adam's first moment is a tenth of the clipped ones."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    for scale, clipped in ((50.0, [0.6, 0.8]), (1.0, [0.6, 0.8]), (0.1, [0.06, 0.08])):
        gradient = {"a": jnp.array([0.6 * scale]), "b": jnp.array([0.8 * scale])}
        _, state = steps(AdamW(clip_norm=1.0, warmup_steps=0), [gradient], params)
        (moment,) = (each.mu for each in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(each))
        assert [float(moment["a"][0]), float(moment["b"][0])] == pytest.approx(np.array(clipped) / 10, rel=1e-5)


def test_weight_decay_is_decoupled_from_the_gradient():
    """Without a gradient a weight shrinks by 1 - rate x decay a step; Adam's first step adds the rate's size."""
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5, warmup_steps=0, clip_norm=1e9)
    still, _ = steps(optimizer, [jnp.zeros(1)] * 3, jnp.ones(1))
    assert float(still[0]) == pytest.approx(0.95**3)
    moved, _ = steps(optimizer, [jnp.full(1, 123.0)], jnp.ones(1))
    assert float(moved[0]) == pytest.approx(1 - 0.1 - 0.05, rel=1e-5)


def test_on_a_plateau_the_rate_falls_by_the_factor_and_not_below_its_minimum():
    """Patience 2: two epochs in a row that are not lower, and again after two more; a lower one begins anew."""
    rate = Plateau(factor=0.5, patience=2, lr_min=1e-4)
    losses = [3.0, 2.0, 2.0, 2.1, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9]
    scales = [rate.scale(1e-3, losses[:n]) for n in range(len(losses) + 1)]
    assert scales == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert rate.scale(1e-3, [1.0] * 100) == pytest.approx(0.1)
    assert AdamW(learning_rate=1e-3, lr_schedule=rate).scale(losses) == 0.125
    assert AdamW(learning_rate=1e-3).scale(losses) == 1


def test_a_plateaus_loss_must_fall_by_more_than_rounding():
    assert Plateau(patience=1).scale(1.0, [1.0, 0.99995]) == 0.5
    assert Plateau(patience=1).scale(1.0, [1.0, 0.999]) == 1
    assert rates(Plateau(), 3e-4, 40, 200)[40:] == pytest.approx(3e-4)

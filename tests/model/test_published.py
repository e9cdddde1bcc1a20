"""A published flow policy's network is our mixer: the same velocities and chunks, and no other layout is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dd.env.base import Spec
from dd.model import published
from dd.policy import Policy
from dd.schedule.flow import Euler, Flow
from tests import others


@pytest.fixture(scope="module")
def tree():
    return others.parameters(chunk=5, obs_dim=7, action_dim=3)


@pytest.fixture(scope="module")
def ours(tree):
    """The policy of the converted parameters, and these."""
    flat = published.flat(tree)
    sizes = published.sizes(flat)
    spec = Spec(jax.ShapeDtypeStruct((sizes.obs_dim,), jnp.float32), (-1.0,) * 3, (1.0,) * 3, 10)
    policy = Policy(Flow(), sizes.model, spec, sizes.chunk)
    state = jax.eval_shape(policy.create, jax.random.key(0))
    nnx.replace_by_pure_dict(state, published.parameters(flat))
    return policy, jax.tree.map(jnp.asarray, state)


def test_sizes_are_those_of_the_arrays(tree):
    model, chunk, obs_dim, action_dim = published.sizes(published.flat(tree))
    assert (chunk, obs_dim, action_dim) == (5, 7, 3)
    assert (model.num_layers, model.channel_dim, model.channel_hidden_dim, model.token_hidden_dim) == (2, 8, 12, 6)


@pytest.mark.parametrize("time", [0.0, 0.003, 0.4, 1.0])
def test_the_velocity_is_that_of_the_published_network(tree, ours, time):
    policy, params = ours
    draw = np.random.default_rng(1)
    obs, x = draw.normal(size=(3, 7)).astype(np.float32), draw.normal(size=(3, 5, 3)).astype(np.float32)
    found = policy.denoiser(params, jnp.asarray(obs))(jnp.asarray(x), jnp.full((3, 5), time, jnp.float32))
    expected = others.velocity(tree, obs, x, time)
    assert np.std(expected) > 0.3
    assert np.abs(found - expected).max() < 1e-5


def test_a_naive_chunk_is_euler_s_from_the_same_noise(tree, ours):
    policy, params = ours
    keys = jax.random.split(jax.random.key(3), 2)
    obs = np.random.default_rng(2).normal(size=(2, 7)).astype(np.float32)
    prior = policy.prior(keys)
    state, _ = policy.sample(policy.denoiser(params, jnp.asarray(obs)), Euler(), keys, prior, 5)
    x = np.asarray(prior.x, np.float64)
    for k in range(5):
        x = x + others.velocity(tree, obs, x, k / 5) / 5
    assert np.abs(policy.actions(state) - x).max() < 1e-5


def _removed(tree):
    del tree["final_adaln"]["bias"]


def _added(tree):
    tree["in_proj"]["scale"] = np.ones(8, np.float32)


def _cut(tree):
    tree["mlp_stack"][1]["token_mix_out"]["kernel"] = np.ones((6, 4), np.float32)


def _not_finite(tree):
    tree["out_proj"]["bias"][1] = np.nan


def _of_integers(tree):
    tree["out_proj"]["bias"] = np.ones(3, np.int32)


def _a_text(tree):
    tree["in_proj"]["kernel"] = "kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_removed, "final_adaln/bias is missing"),
        (_added, "in_proj/scale is no part of the layout"),
        (_cut, r"mlp_stack/1/token_mix_out/kernel has shape \[6, 4\] where the others want \[6, 5\]"),
        (_not_finite, "out_proj/bias holds a number that is not finite"),
        (_of_integers, "out_proj/bias is no array of floats"),
        (_a_text, "in_proj/kernel is no array of floats"),
        (dict.clear, "in_proj/kernel is missing"),
    ],
)
def test_another_layout_is_refused(change, message):
    tree = others.parameters(chunk=5, obs_dim=7, action_dim=3)
    change(tree)
    with pytest.raises(ValueError, match=message):
        published.sizes(published.flat(tree))


def test_lists_stand_for_their_indices(tree):
    listed = tree | {"mlp_stack": list(tree["mlp_stack"].values())}
    assert published.sizes(published.flat(listed)) == published.sizes(published.flat(tree))

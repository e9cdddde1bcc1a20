import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dd.errors import UserError
from dd.model import layers, token_mixing
from dd.model.base import AbstractBackbone, AbstractModel
from dd.model.mixer import Mixer, MixerNetwork
from tests.benchmarks.plain import PlainMixer, PlainModel, adopt, parameters

SIZES = Mixer(num_layers=2, channel_dim=16, channel_hidden_dim=24, token_hidden_dim=12)
BATCH, OBS, CHUNK, ACTION, BINS = 6, 11, 5, 3, 7


def initialised(*, timed: bool = False, tokens: bool = True, model: AbstractModel = SIZES) -> AbstractBackbone:
    return model.create(
        obs=jax.ShapeDtypeStruct((OBS,), jnp.float32),
        chunk=CHUNK,
        action_dim=ACTION,
        in_vocab=BINS + 1 if tokens else None,
        out_vocab=BINS if tokens else None,
        timed=timed,
        rngs=nnx.Rngs(0),
    )


def create(**kind: bool | AbstractModel) -> AbstractBackbone:
    """A network with noise for parameters: nothing is compiled, and no zeros of the initialisation hide anything."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: initialised(**kind)))
    noise = np.random.default_rng(0)
    return nnx.merge(
        graph, jax.tree.map(lambda leaf: jnp.asarray(noise.normal(0, 0.3, leaf.shape), jnp.float32), shapes)
    )


def predicted(network: AbstractBackbone, obs: jax.Array, noisy: jax.Array, t: jax.Array | None) -> jax.Array:
    return network.denoise(network.encode(obs), noisy, t)


def plain_of(network: MixerNetwork, *, frugal: bool, **kind: bool) -> PlainMixer:
    """The plain form with the same parameters."""
    plain = create(model=PlainModel(SIZES, frugal=frugal), **kind)
    adopt(plain, network)
    return plain


@pytest.fixture(scope="module")
def obs() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (BATCH, OBS))


@pytest.fixture(scope="module")
def x() -> jax.Array:
    return jax.random.randint(jax.random.key(2), (BATCH, CHUNK, ACTION), 0, BINS + 1)


@pytest.fixture(scope="module")
def actions() -> jax.Array:
    return jax.random.normal(jax.random.key(3), (BATCH, CHUNK, ACTION))


@pytest.fixture(scope="module", params=[token_mixing.BLOCK_SIZE, 12 * 20], ids=["one block", "blocks"])
def against_plain(request, obs, x):
    """Output and gradients of the network and of the plain one with the same parameters."""
    network = create()
    plain = plain_of(network, frugal=True)
    weights = jax.random.normal(jax.random.key(4), (BATCH, CHUNK, ACTION, BINS))

    def both(module):
        graph, params = nnx.split(module)

        def loss(params, obs):
            out = predicted(nnx.merge(graph, params), obs, x, None)
            return jnp.sum(weights * jax.nn.log_softmax(out)), out

        (_, out), (by_params, by_obs) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, obs)
        return out, nnx.merge(graph, by_params), by_obs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_mixing, "BLOCK_SIZE", request.param)
        ours = both(network)
    return ours, both(plain)


def test_output_equals_the_plain_network(against_plain):
    (out, _, _), (plain, _, _) = against_plain
    np.testing.assert_allclose(out, plain, rtol=1e-5, atol=1e-5)


def test_gradients_equal_the_plain_network(against_plain):
    (_, ours, by_obs), (_, plain, plain_by_obs) = against_plain
    for name, expected, value in parameters(plain, ours):
        error = jnp.linalg.norm(expected[...] - value) / jnp.linalg.norm(expected[...])
        assert error < 1e-5, name
    np.testing.assert_allclose(by_obs, plain_by_obs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "continuous"])
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "timeless"])
def test_every_plain_form_has_the_networks_parameters_and_output(obs, x, actions, timed, tokens):
    """Within 1e-5 of the norm: time in every token or once for a chunk, told for each entry or once for all."""
    network = create(timed=timed, tokens=tokens)
    noisy = x if tokens else actions
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    ask = nnx.jit(predicted)
    for frugal in (False, True):
        plain = plain_of(network, frugal=frugal, timed=timed, tokens=tokens)
        assert count == sum(value.size for _, _, value in parameters(plain, network))
        assert count == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(plain, nnx.Param)))
        each = jax.random.uniform(jax.random.key(5), (BATCH, CHUNK))
        for t in (each, each[:1, :1]) if timed else (None,):
            expected = ask(plain, obs, noisy, t)
            assert jnp.linalg.norm(ask(network, obs, noisy, t) - expected) < 1e-5 * jnp.linalg.norm(expected)


@pytest.mark.parametrize("forward", [token_mixing._forward, token_mixing._forward_in_blocks], ids=["whole", "blocks"])
def test_token_mixing_is_the_same_for_any_block(monkeypatch, forward):
    """Accelerators take all columns at once, CPUs a block at a time: the written-out gradients agree with jax's own."""
    keys = jax.random.split(jax.random.key(0), 4)
    x, dy = jax.random.normal(keys[0], (5, 42)), jax.random.normal(keys[1], (5, 42))
    kernels = [0.4 * jax.random.normal(key, (12, 5)) for key in keys[2:]]
    monkeypatch.setattr(token_mixing, "BLOCK_SIZE", 12 * 10)
    backward = getattr(token_mixing, forward.__name__.replace("forward", "backward"))
    out, gradient = jax.vjp(lambda x, w, n: n.T @ jax.nn.gelu(w @ x), x, *kernels)
    np.testing.assert_allclose(forward(x, *kernels), out, rtol=1e-5, atol=1e-5)
    for value, expected in zip(backward(x, *kernels, dy), gradient(dy), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("columns", "expected"), [(4096, 1024), (42, 42), (509 * 256, 509 * 2), (1031, 1)])
def test_blocks_divide_the_columns(columns, expected):
    """The largest divisor of the columns with at most 2^18 hidden activations; here 1024 columns of 256."""
    assert token_mixing.block_columns(columns, 256) == expected


def test_the_observation_enters_every_token_equally(obs, actions):
    """Where actions are alike along h so are the first layer's tokens; what obs adds is W_obs obs + bias."""
    network = create(tokens=False)
    network.branches = nnx.List([])
    with_obs = network.denoise(network.encode(obs), jnp.repeat(actions[:, :1], CHUNK, axis=1), None)
    np.testing.assert_array_equal(with_obs, jnp.repeat(with_obs[:, :1], CHUNK, axis=1))
    expected = obs @ network.obs_in.kernel[...] + network.obs_in.bias[...]
    np.testing.assert_allclose(network.encode(obs), expected, rtol=1e-6)


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "continuous"])
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "timeless"])
def test_every_output_depends_on_every_token_of_its_own_chunk(obs, x, actions, timed, tokens):
    """Changing action i of chunk 0 changes every output of chunk 0 and none of another chunk."""
    network = create(timed=timed, tokens=tokens)
    noisy = x if tokens else actions
    t = jnp.full((BATCH, CHUNK), 0.3) if timed else None
    run = jax.jit(lambda noisy: network.denoise(network.encode(obs), noisy, t))
    before = run(noisy)
    assert before.shape == ((BATCH, CHUNK, ACTION, BINS) if tokens else (BATCH, CHUNK, ACTION))
    assert before.dtype == jnp.float32
    for i in range(CHUNK):
        change = jnp.abs(run(noisy.at[0, i, 1].set((noisy[0, i, 1] + 1) % BINS)) - before)
        assert (change[0].reshape(CHUNK, -1).max(axis=1) > 1e-4).all()
        np.testing.assert_array_equal(change[1:], 0)


def test_without_time_there_are_no_time_parameters():
    """The timed network has the time's MLP and, in every branch and at the end, linear layers in place of vectors."""
    d = SIZES.channel_dim
    linear = d * d + d
    count = {timed: sum(leaf.size for leaf in jax.tree.leaves(create(timed=timed))) for timed in (False, True)}
    assert count[True] - count[False] == 2 * linear + 4 * (3 * linear - 2 * d) + (2 * linear - 2 * d)
    assert create().time_in is None


def test_timed_branches_add_nothing_at_initialisation(obs, x):
    """adaLN-zero: gates start at 0, so the output is that of the first and last layer alone, whatever the time."""
    network = nnx.jit(initialised, static_argnames="timed")(timed=True)
    t = jax.random.uniform(jax.random.key(5), (BATCH, CHUNK))
    out = network.denoise(network.encode(obs), x, t)
    network.branches = nnx.List([])
    np.testing.assert_array_equal(out, network.denoise(network.encode(obs), x, 1 - t))


def test_each_token_has_its_own_time(obs, actions):
    """With mixing between tokens cut, another time at token 2 changes token 2 and no other."""
    network = create(timed=True, tokens=False)
    for branch in network.branches[::2]:
        branch.mixing.narrow[...] = jnp.zeros_like(branch.mixing.narrow[...])
    t = jnp.full((BATCH, CHUNK), 0.3)
    condition = network.encode(obs)
    change = jnp.abs(network.denoise(condition, actions, t.at[:, 2].set(0.7)) - network.denoise(condition, actions, t))
    per_token = change.max(axis=(0, 2))
    assert per_token[2] > 1e-3
    np.testing.assert_array_equal(per_token[jnp.array([0, 1, 3, 4])], 0)


def test_tokens_enter_at_the_scale_of_a_linear_layer():
    """An embedded action, the sum of a rows, has variance 1, as W_obs gives an observation of variance 1."""
    embedding = layers.TokenEmbedding(ACTION, BINS + 1, 64, rngs=nnx.Rngs(3))
    assert float(embedding.table[...].var() * ACTION) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize(
    ("sizes", "spec", "message"),
    [
        (SIZES, jax.ShapeDtypeStruct((7, 7, 3), jnp.float32), "one vector"),
        (Mixer(channel_dim=15), jax.ShapeDtypeStruct((OBS,), jnp.float32), "channel_dim=15: must be even"),
    ],
)
def test_what_it_cannot_build_is_refused(sizes, spec, message):
    with pytest.raises(UserError, match=message):
        sizes.create(obs=spec, chunk=8, action_dim=2, in_vocab=None, out_vocab=None, timed=True, rngs=nnx.Rngs(0))

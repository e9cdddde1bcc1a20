"""ReMDM's remasking: the number masked again, which, and the schedule that is kept all the same."""

import functools
import itertools

import jax
import numpy as np
import pytest

from dd import fields
from dd.errors import UserError
from dd.schedule.masked import Masked, MaskedState, MaskGIT
from dd.schedule.ratio import Cosine
from dd.schedule.remask import Cap, Confidence, Rescale

H, A, V = 8, 3, 4
PROCESS = Masked(num_bins=V)
MASK = PROCESS.mask_token
KINDS = [Cap, Rescale, Confidence]


@functools.partial(jax.jit, static_argnums=0)
def step(remask, strength, key, state, logits, t, t_next):
    sampler = MaskGIT(use_remask=True, remask=remask)
    bound = fields.bind(sampler, dict(fields.leaves(sampler)) | {"remask.strength": strength})
    return bound.step(PROCESS, key, state, logits, t, t_next)


@functools.partial(jax.jit, static_argnums=0)
def again(remask, strength, keys, confidence, committed, remaining):
    bound = fields.bind(remask, {"strength": strength})
    return jax.vmap(lambda key: bound(key, confidence, committed, remaining))(keys)


def trace(remask, strength, n, imposed=2):
    tokens = np.full((H, A), MASK, np.int32)
    tokens[:imposed] = 1
    states = [MaskedState(tokens, np.arange(H) < imposed, np.zeros((H, A), np.float32))]
    draw = np.random.default_rng(0)
    for k in range(n):
        logits, times = draw.normal(scale=2, size=(H, A, V)).astype(np.float32), np.float32([k / n, (k + 1) / n])
        states.append(step(remask, np.float32(strength), jax.random.key(k), states[-1], logits, *times))
    return [np.asarray(each.tokens) for each in states]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_the_scheduled_number_is_masked_after_every_step_and_imposed_tokens_stay(kind, strength):
    n, imposed = 6, 2
    tokens, total = trace(kind(), strength, n, imposed), (H - imposed) * A
    expected = [int(np.floor(np.cos(np.pi * k / (2 * n)) * total + 1e-9)) for k in range(n)] + [0]
    assert [int((each == MASK).sum()) for each in tokens] == expected
    assert all((each[:imposed] == 1).all() for each in tokens)
    back = [((before != MASK) & (after == MASK)).sum() for before, after in itertools.pairwise(tokens)]
    assert sum(back) > 0 or (kind, strength) == (Confidence, 0.2)  # that is a third of a token in all six steps
    assert back[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_at_strength_0_it_is_maskgit(kind):
    plain = MaskGIT()
    for k in range(4):
        logits = np.random.default_rng(k).normal(scale=2, size=(H, A, V)).astype(np.float32)
        state, times = PROCESS.prior(jax.random.key(0), H, A), (np.float32(0.2), np.float32(0.6))
        found = step(kind(), np.float32(0.0), jax.random.key(k), state, logits, *times)
        expected = jax.jit(functools.partial(plain.step, PROCESS))(jax.random.key(k), state, logits, *times)
        assert (found.tokens == expected.tokens).all()


@pytest.mark.parametrize(
    ("kind", "strength", "sigma"),
    [
        *[(Cap, 0.2, 0.2), (Cap, 0.9, 0.5), (Rescale, 0.2, 0.1), (Rescale, 1.0, 0.5)],
        *[(Confidence, 0.2, 0.1 / 16), (Confidence, 1.0, 0.5 / 16)],
    ],
)
def test_each_committed_token_is_masked_again_with_probability_sigma(kind, strength, sigma):
    """16 committed, 8 to stay masked: sigma_max = .5. cap: min(strength, .5); rescale: strength x .5; by confidence
    that is what the probabilities of all sum to, alike where confidences are. 1e4 draws, 4 standard errors.
    """
    committed = np.arange(H * A).reshape(H, A) < 16
    keys, confidence = jax.random.split(jax.random.key(1), 10_000), np.full((H, A), -1.0, np.float32)
    found = np.asarray(again(kind(), np.float32(strength), keys, confidence, committed, np.int32(8)))
    assert not (found & ~committed).any()
    number = found.sum((1, 2))
    assert set(number) <= {int(np.floor(16 * sigma)), int(np.ceil(16 * sigma))}
    assert number.mean() == pytest.approx(16 * sigma, abs=4 * 0.5 / 100)
    share = found.mean(0)[committed]
    assert share == pytest.approx(sigma, abs=4 * np.sqrt(sigma * (1 - sigma) / 1e4))


def test_by_confidence_the_unsure_are_masked_again_in_proportion_to_softmax():
    """One of two, p = .9 and .1 when committed: exp(-.9) against exp(-.1), 1e4 draws within 4 standard errors.

    One is to stay masked, so sigma_max = .5: half of the draws mask one, the others none.
    """
    confidence = np.log(np.array([[0.9], [0.1]], np.float32))
    keys, both = jax.random.split(jax.random.key(2), 10_000), np.ones((2, 1), bool)
    found = np.asarray(again(Confidence(), np.float32(1.0), keys, confidence, both, np.int32(1)))[:, :, 0]
    assert set(found.sum(1)) == {0, 1}
    for token, confident in ((0, 0.9), (1, 0.1)):
        p = 0.5 * np.exp(-confident) / (np.exp(-0.1) + np.exp(-0.9))
        assert found[:, token].mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 1e4))


def test_nothing_is_masked_again_where_nothing_is_to_stay_masked():
    keys, all_ = jax.random.split(jax.random.key(3), 100), np.ones((H, A), bool)
    assert not again(Cap(), np.float32(1.0), keys, np.zeros((H, A), np.float32), all_, np.int32(0)).any()


def test_a_chunk_that_may_be_masked_again_is_not_finished_early():
    with pytest.raises(UserError, match=r"early_stop=true: .* use_remask=true"):
        MaskGIT(early_stop=True, use_remask=True)
    assert MaskGIT(decode_schedule=Cosine(), early_stop=True).early_stop

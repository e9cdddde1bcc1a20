"""Proximal policy optimisation: how an expert is trained, one update at a time."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dd import fields
from dd.env.base import AbstractEnv
from dd.errors import UserError
from dd.model import actor
from dd.model.actor import Actor, History, Network


class Slot(NamedTuple):
    """One of the environments that run side by side."""

    state: PyTree[Array]
    history: History


class Steps(NamedTuple):
    """What the slots went through; every array is [t, b, ...], time first.

    Attributes:
        inputs: the networks' input before the action.
        raw: the action before it was squashed.
        reward: the world's reward plus the dense one.
        done: the episode ended with this step.
        solved: it ended because its goal was reached.
    """

    inputs: Float[Array, "*t i"]
    raw: Float[Array, "*t a"]
    reward: Float[Array, "*t"]
    done: Bool[Array, "*t"]
    solved: Bool[Array, "*t"]


class Learner(NamedTuple):
    """What training changes."""

    actor: Actor
    critic: Network
    optimizer: optax.OptState


class Batch(NamedTuple):
    """What the loss reads; arrays are [n, ...]."""

    inputs: Float[Array, "n i"]
    raw: Float[Array, "n a"]
    log_prob: Float[Array, "n"]
    advantage: Float[Array, "n"]
    target: Float[Array, "n"]


@fields.configuration
class PPO:
    r"""PPO (arXiv 1707.06347) with generalised advantages and robust policy optimisation (RPO, arXiv 2212.07536).

    An update plays `num_steps` in each of `num_envs` environments, then passes `num_epochs` times over these steps, in
    `num_minibatches` parts. With r the ratio of the action's density under the present and the playing policy and A its
    advantage, the loss is

        mean(-min(r A, clip(r, 1 - eps, 1 + eps) A)) + value_weight mean((V - target)^2) / 2 - entropy_weight H.

    RPO: in the loss, not in play, the present policy's mean is moved by noise uniform in [-rpo_alpha, rpo_alpha]. Ratio
    and entropy are those of the Gaussian before squashing, which cancels in the ratio. The reward is the world's own
    and `dense_reward_scale` times the distance gained.
    """

    num_envs: int = fields.field(128, ge=1)
    num_steps: int = fields.field(128, ge=1)
    num_epochs: int = fields.field(4, ge=1)
    num_minibatches: int = fields.field(4, ge=1)
    hidden_dim: int = fields.field(256, ge=1)
    learning_rate: float = fields.field(3e-4, gt=0)
    max_grad_norm: float = fields.field(0.5, gt=0)
    gamma: float = fields.field(0.995, ge=0, le=1)
    gae_lambda: float = fields.field(0.95, ge=0, le=1)
    clip: float = fields.field(0.2, gt=0)
    value_weight: float = fields.field(0.5, ge=0)
    entropy_weight: float = fields.field(0.0, ge=0)
    rpo_alpha: float = fields.field(0.3, ge=0)
    dense_reward_scale: float = fields.field(1.0, ge=0)

    def __post_init__(self) -> None:
        if self.batch_size % self.num_minibatches:
            raise UserError(
                f"num_minibatches={self.num_minibatches}: must divide num_envs * num_steps = {self.batch_size}; "
                "choose a power of two."
            )

    @property
    def batch_size(self) -> int:
        """Env steps of one update."""
        return self.num_envs * self.num_steps

    def optimizer(self) -> optax.GradientTransformation:
        """Adam after clipping by the global norm."""
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.adam(self.learning_rate, eps=1e-5))

    def create(self, key: Key[Array, ""], num_inputs: int, action_dim: int) -> Learner:
        """A learner before its first update."""
        for_actor, for_critic = jax.random.split(key)
        policy = actor.create_actor(for_actor, (num_inputs, self.hidden_dim, action_dim))
        critic = actor.create_network(for_critic, (num_inputs, self.hidden_dim, 1), output_scale=1.0)
        return Learner(policy, critic, self.optimizer().init((policy, critic)))

    def improve(
        self, learner: Learner, steps: Steps, last: Float[Array, "b i"], key: Key[Array, ""]
    ) -> tuple[Learner, Float[Array, ""]]:
        """Learn from one update's steps.

        Args:
            learner: as it was when the steps were played.
            steps: [t, b, ...].
            last: the networks' inputs after the last step.
            key: of the minibatches and of RPO's noise.

        Returns:
            The learner, and the mean loss.
        """
        values = actor.apply(learner.critic, jnp.concatenate([steps.inputs, last[None]]))[..., 0]
        advantage = advantages(steps.reward, values, steps.done, self.gamma, self.gae_lambda)
        log_prob = log_density(learner.actor, actor.apply(learner.actor.mean, steps.inputs), steps.raw)
        batch = Batch(steps.inputs, steps.raw, log_prob, advantage, advantage + values[:-1])
        batch = jax.tree.map(lambda x: x.reshape(self.batch_size, *x.shape[2:]), batch)

        def epoch(learner: Learner, key: Key[Array, ""]) -> tuple[Learner, Float[Array, "m"]]:
            order, noise = jax.random.split(key)
            parts = jax.random.permutation(order, self.batch_size).reshape(self.num_minibatches, -1)
            step = functools.partial(self._descend, batch)
            return jax.lax.scan(step, learner, (parts, jax.random.split(noise, self.num_minibatches)))

        learner, losses = jax.lax.scan(epoch, learner, jax.random.split(key, self.num_epochs))
        return learner, jnp.mean(losses)

    def _descend(
        self, batch: Batch, learner: Learner, drawn: tuple[Int[Array, "n"], Key[Array, ""]]
    ) -> tuple[Learner, Float[Array, ""]]:
        rows, key = drawn
        part = jax.tree.map(lambda x: x[rows], batch)
        networks = (learner.actor, learner.critic)
        loss, gradient = jax.value_and_grad(self._loss)(networks, part, key)
        change, state = self.optimizer().update(gradient, learner.optimizer)
        policy, critic = optax.apply_updates(networks, change)
        return Learner(policy, critic, state), loss

    def _loss(self, networks: tuple[Actor, Network], batch: Batch, key: Key[Array, ""]) -> Float[Array, ""]:
        policy, critic = networks
        mean = actor.apply(policy.mean, batch.inputs)
        moved = mean + jax.random.uniform(key, mean.shape, minval=-self.rpo_alpha, maxval=self.rpo_alpha)
        ratio = jnp.exp(log_density(policy, moved, batch.raw) - batch.log_prob)
        advantage = (batch.advantage - jnp.mean(batch.advantage)) / (jnp.std(batch.advantage) + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)
        error = actor.apply(critic, batch.inputs)[..., 0] - batch.target
        entropy = jnp.sum(policy.log_std)  # but for a constant
        return -jnp.mean(gain) + self.value_weight * jnp.mean(jnp.square(error)) / 2 - self.entropy_weight * entropy


def advantages(
    reward: Float[Array, "t b"],
    values: Float[Array, "t+1 b"],
    done: Bool[Array, "t b"],
    gamma: float,
    gae_lambda: float,
) -> Float[Array, "t b"]:
    r"""Generalised advantages (arXiv 1506.02438, eq. 16), cut where an episode ends.

    A_t = delta_t + gamma lambda (1 - done_t) A_{t+1},  delta_t = r_t + gamma (1 - done_t) V_{t+1} - V_t.
    """
    going = 1.0 - done
    delta = reward + gamma * going * values[1:] - values[:-1]

    def back(following: Float[Array, "b"], now: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, going = now
        advantage = delta + gamma * gae_lambda * going * following
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, going), reverse=True)[1]


def log_density(policy: Actor, mean: Float[Array, "*b a"], raw: Float[Array, "*b a"]) -> Float[Array, "*b"]:
    """Log-density of unsquashed actions around `mean`, but for a constant."""
    return jnp.sum(-0.5 * jnp.square((raw - mean) / jnp.exp(policy.log_std)) - policy.log_std, axis=-1)


def start(env: AbstractEnv, level: PyTree[Array], columns: Int[Array, "k"], key: Key[Array, ""]) -> Slot:
    """A slot at the start of an episode."""
    state = env.reset(level, key)
    frame = actor.select(env.observe(level, state), columns)
    return Slot(state, actor.begin(frame, len(env.spec().action_low)))


def play(
    env: AbstractEnv,
    settings: PPO,
    policy: Actor,
    level: PyTree[Array],
    columns: Int[Array, "k"],
    slots: Slot,
    key: Key[Array, ""],
) -> tuple[Slot, Steps]:
    """`num_steps` in every slot; the steps come back [t, b, ...]."""

    def advance(slots: Slot, key: Key[Array, ""]) -> tuple[Slot, Steps]:
        each = jax.vmap(lambda slot, key: _step(env, settings, policy, level, columns, slot, key))
        return each(slots, jax.random.split(key, settings.num_envs))

    return jax.lax.scan(advance, slots, jax.random.split(key, settings.num_steps))


def _step(
    env: AbstractEnv,
    settings: PPO,
    policy: Actor,
    level: PyTree[Array],
    columns: Int[Array, "k"],
    slot: Slot,
    key: Key[Array, ""],
) -> tuple[Slot, Steps]:
    """One env step in one slot; where an episode ends, the next begins."""
    for_action, for_step, for_reset = jax.random.split(key, 3)
    spec = env.spec()
    seen = actor.inputs(slot.history)
    noise = jnp.exp(policy.log_std) * jax.random.normal(for_action, policy.log_std.shape)
    raw = actor.apply(policy.mean, seen) + noise
    action = actor.squash(raw, spec.action_low, spec.action_high)
    state, outcome = env.step(level, slot.state, action, for_step)
    frame = actor.select(env.observe(level, state), columns)
    going = Slot(state, actor.push(slot.history, frame, action))
    fresh = start(env, level, columns, for_reset)
    following = jax.tree.map(lambda new, old: jnp.where(outcome.done, new, old), fresh, going)
    reward = outcome.reward + settings.dense_reward_scale * outcome.shaping
    return following, Steps(seen, raw, reward, outcome.done, outcome.solved)

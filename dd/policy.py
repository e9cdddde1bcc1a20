"""A policy: a corruption process and a backbone over chunks of one world's actions, and the one sampling loop."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree

from dd import arrays, fields
from dd.env.base import Spec
from dd.model.base import AbstractModel
from dd.schedule.base import AbstractProcess, AbstractSampler, Denoise, State

_PRIOR, _CORRECTION = 0x9410, 0xC0442EC7  # name the streams beside those of the reverse steps


@dataclasses.dataclass(frozen=True)
class Policy:
    """Shapes and parts of a policy; its parameters are passed along, never held.

    Attributes:
        process: the corruption process.
        model: the backbone's sizes.
        spec: observation and action of the world.
        chunk: h, the actions of a chunk.
        simulated_delay: it was trained with prefixes given, at time 1.
    """

    process: AbstractProcess
    model: AbstractModel
    spec: Spec
    chunk: int
    simulated_delay: bool = False

    def create(self, key: Key[Array, ""]) -> PyTree[Array]:
        """Freshly initialised parameters."""
        return nnx.state(self._module(key), nnx.Param)

    def loss(
        self,
        params: PyTree[Array],
        key: Key[Array, ""],
        obs: PyTree[Array],
        actions: Float[Array, "b h a"],
        kept: Bool[Array, "b h"],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The process's loss and metrics on a batch, in which the entries `kept` are given."""
        return self.process.loss(key, self.encode(actions), kept, self.denoiser(params, obs))

    def denoiser(self, params: PyTree[Array], obs: PyTree[Array], samples: int = 1) -> Denoise:
        """(noisy x [b h a], t) -> prediction, with the observation's part of the network computed once.

        Args:
            params: as `create` gives them.
            obs: batched.
            samples: n, chunks of each observation that are denoised side by side: x is then [n b, h, a], a sample of
                every observation after the other.
        """
        network = nnx.merge(self._graph(), params)
        condition = network.encode(obs)
        if samples > 1:
            condition = jax.tree.map(lambda y: jnp.tile(y, (samples,) + (1,) * (y.ndim - 1)), condition)
        return lambda x, t: network.denoise(condition, x, t)

    def prior(self, keys: Key[Array, " b"]) -> State:
        """One state at t = 0 per key."""
        dims = len(self.spec.action_low)
        return jax.vmap(lambda key: self.process.prior(jax.random.fold_in(key, _PRIOR), self.chunk, dims))(keys)

    def sample(
        self,
        denoise: Denoise,
        sampler: AbstractSampler,
        keys: Key[Array, " b"],
        state: State,
        num_flow_steps: int | Int[Array, ""],
        first_step: int | Int[Array, ""] = 0,
        needed: Bool[Array, "h"] | None = None,
    ) -> tuple[State, Int[Array, " b"]]:
        """The sampling loop: n = `num_flow_steps` reverse steps over [0, 1], from any state at time first_step / n.

        Step k goes from t = k / n to (k + 1) / n:

            k       0        1       ...   n - 1
            t       0       1/n      ...  (n-1)/n
            t_next  1/n     2/n      ...    1

        Args:
            denoise: the network, or what a decode made of it.
            sampler: one reverse step.
            keys: one per chunk; a chunk's randomness depends on its own key and the step alone.
            state: batched over chunks.
            num_flow_steps: n >= 1, may be traced.
            first_step: the step to begin with, 0 for a state drawn from the prior.
            needed: entries that will be read; a sampler with `early_stop` leaves a chunk alone once these are finished.

        Returns:
            The states at t = 1, and how often each chunk's denoiser was asked.
        """
        n = jnp.asarray(num_flow_steps, jnp.int32)
        stops = sampler.early_stop and needed is not None

        def finished(state: State) -> Bool[Array, " b"]:
            if not stops:
                return jnp.zeros(keys.shape[0], bool)
            return jax.vmap(lambda one: sampler.finished(self.process, one, needed))(state)

        def unfinished(carry: tuple[Int[Array, ""], State, Int[Array, " b"]]) -> Bool[Array, ""]:
            k, state, _ = carry
            return (k < n) & ~finished(state).all()

        def step(
            carry: tuple[Int[Array, ""], State, Int[Array, " b"]],
        ) -> tuple[Int[Array, ""], State, Int[Array, " b"]]:
            k, state, asked = carry
            # (k + 1) / n, not k / n + 1 / n: the last step must land on exactly 1.
            following, times = self._step(denoise, sampler, keys, state, k, k / n, (k + 1) / n)
            still = finished(state)
            following = jax.tree.map(
                lambda a, b: jnp.where(still.reshape(-1, *[1] * (a.ndim - 1)), a, b), state, following
            )
            return k + 1, following, asked + jnp.where(still, 0, times)

        start = jnp.asarray(first_step, jnp.int32), state, jnp.zeros(keys.shape[0], jnp.int32)
        _, state, asked = jax.lax.while_loop(unfinished, step, start)
        return state, asked

    def _step(
        self,
        denoise: Denoise,
        sampler: AbstractSampler,
        keys: Key[Array, " b"],
        state: State,
        k: Int[Array, ""],
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> tuple[State, int | Int[Array, ""]]:
        """One reverse step of all chunks with its corrections; how often the denoiser was asked."""

        def forth(keys: Key[Array, " b"], state: State, t: Float[Array, ""]) -> State:
            prediction = denoise(jax.vmap(self.process.noisy)(state), self._times(state, t))
            return jax.vmap(lambda *one: sampler.step(self.process, *one, t, t_next))(keys, state, prediction)

        def correct(i: Int[Array, ""], state: State) -> State:
            pairs = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _CORRECTION), i)))
            back_keys, forth_keys = pairs(step_keys).T
            state = jax.vmap(lambda *one: sampler.back(self.process, *one, since, t_next))(back_keys, state)
            return forth(forth_keys, state, since)

        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, k)
        corrections, since = sampler.corrections(t, t_next)
        return jax.lax.fori_loop(0, corrections, correct, forth(step_keys, state, t)), 1 + corrections

    def _times(self, state: State, t: Float[Array, ""]) -> Float[Array, "#b #h"] | None:
        """The time of each entry: where it was imposed 1, if the policy has been trained with that; else one for all.

        What the network makes of one time it computes once, not for every entry of every chunk.
        """
        if not self.process.timed:
            return None
        return jnp.where(state.known, 1.0, t) if self.simulated_delay else jnp.reshape(t, (1, 1))

    def actions(self, state: State) -> Float[Array, "b h a"]:
        """The actions of finished states."""
        x = jax.vmap(self.process.noisy)(state)
        return self.process.decode(x, self.spec.action_low, self.spec.action_high)

    def encode(self, actions: Float[Array, "b h a"]) -> Array:
        """Actions in the process's space."""
        return self.process.encode(actions, self.spec.action_low, self.spec.action_high)

    def _module(self, key: Key[Array, ""]) -> nnx.Module:
        return self.model.create(
            obs=self.spec.obs,
            chunk=self.chunk,
            action_dim=len(self.spec.action_low),
            in_vocab=self.process.in_vocab,
            out_vocab=self.process.out_vocab,
            timed=self.process.timed,
            rngs=nnx.Rngs(params=key),
        )

    def _graph(self) -> nnx.GraphDef:
        return nnx.graphdef(nnx.eval_shape(lambda: self._module(jax.random.key(0))))

    def describe(self) -> dict[str, Any]:
        """JSON-ready description from which `LoadedPolicy.read` makes the policy again."""
        leaves, structure = jax.tree.flatten(self.spec.obs)
        if structure != jax.tree.structure(0):
            names = sorted(self.spec.obs)
            obs: Any = {name: [list(self.spec.obs[name].shape), str(self.spec.obs[name].dtype)] for name in names}
        else:
            obs = [list(leaves[0].shape), str(leaves[0].dtype)]
        return {
            "process": fields.content(self.process),
            "model": fields.content(self.model),
            "chunk": self.chunk,
            "simulated_delay": self.simulated_delay,
            "obs": obs,
            "action_low": list(self.spec.action_low),
            "action_high": list(self.spec.action_high),
            "max_steps": self.spec.max_steps,
        }


def _described_policy(described: dict[str, Any]) -> Policy:
    def shape(pair: list[Any]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tuple(pair[0]), pair[1])

    obs = described["obs"]
    spec = Spec(
        obs={name: shape(pair) for name, pair in obs.items()} if isinstance(obs, dict) else shape(obs),
        action_low=tuple(described["action_low"]),
        action_high=tuple(described["action_high"]),
        max_steps=described["max_steps"],
    )
    process, model = fields.rebuild(described["process"]), fields.rebuild(described["model"])
    return Policy(process, model, spec, described["chunk"], described.get("simulated_delay", False))


@dataclasses.dataclass(frozen=True)
class LoadedPolicy:
    """A trained policy with its parameters, as `dd.load(key)` gives it."""

    policy: Policy
    params: PyTree[Array]

    @classmethod
    def read(cls, folder: pathlib.Path, checkpoint: str = "last") -> "LoadedPolicy":
        """The policy of a training's folder; `checkpoint` is last, best, or `epoch_<n>` where that one was kept."""
        policy = _described_policy(json.loads((folder / "policy.json").read_text()))
        like = jax.eval_shape(policy.create, jax.random.key(0))
        read = arrays.read(folder / f"{checkpoint}.safetensors", like)
        return cls(policy, jax.tree.map(jnp.asarray, read))

    def action(
        self,
        key: Key[Array, ""],
        obs: PyTree[ArrayLike],
        num_flow_steps: int = 5,
        sampler: AbstractSampler | None = None,
    ) -> Float[Array, "h a"]:
        """A chunk of actions for one observation, decoded `naive` in `num_flow_steps` reverse steps.

        Raises:
            TypeError: when the observation does not have the shapes the policy was trained on.
            ValueError: when there is no step to take.
        """
        if num_flow_steps < 1:
            raise ValueError(f"num_flow_steps={num_flow_steps}: a chunk takes one reverse step or more, for instance 5")
        obs = jax.tree.map(jnp.asarray, obs)
        expected = jax.tree.map(lambda x: x.shape, self.policy.spec.obs)
        if jax.tree.map(jnp.shape, obs) != expected:
            raise TypeError(f"an observation of shape {jax.tree.map(jnp.shape, obs)} where {expected} was trained on")
        return _one_chunk(self.policy, sampler or self.policy.process.sampler(), self.params, key, obs, num_flow_steps)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _one_chunk(
    policy: Policy, sampler: AbstractSampler, params: Any, key: Any, obs: Any, num_flow_steps: Int[Array, ""]
) -> Float[Array, "h a"]:
    keys = key[None]
    denoise = policy.denoiser(params, jax.tree.map(lambda x: x[None], obs))
    state, _ = policy.sample(denoise, sampler, keys, policy.prior(keys), num_flow_steps)
    return policy.actions(state)[0]

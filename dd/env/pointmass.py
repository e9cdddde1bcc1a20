"""A point that must dock at a goal: a tiny world with a known optimal policy, and the example of adding one's own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dd import fields
from dd.env.base import AbstractEnv, Outcome, Spec

Level = dict[str, Float[Array, ""]]


class State(NamedTuple):
    """Where the point is.

    Attributes:
        offset: from the point to the goal, in arena units.
        velocity: the move of the last step, in arena units.
        docked: steps in a row that ended inside the goal's radius.
        step: env steps taken.
    """

    offset: Float[Array, "2"]
    velocity: Float[Array, "2"]
    docked: Int[Array, ""]
    step: Int[Array, ""]


@fields.configuration
class PointMass(AbstractEnv):
    r"""A point moves by v = speed (a + noise), noise ~ N(0, action_noise^2), and docks by staying at the goal.

    The goal is uniform in [-1, 1]^2 around the start. An episode is solved once `hold` steps in a row end within
    `radius` of the goal, and fails after `max_steps`. Each step's noise must be seen to be corrected, so delay costs
    docking.

    The optimal policy cancels the offset e: a*(e) = clip(e / speed, -1, 1). Without noise it needs

        hold - 1 + max(1, the least n with |clip(|e_0| - n speed, 0)| <= radius)   steps,

    per-axis clip, Euclidean norm. Observation: [offset x, offset y, velocity x, velocity y]; action: [x, y] in [-1, 1].
    """

    speed: float = fields.field(0.2, gt=0)
    radius: float = fields.field(0.05, gt=0)
    action_noise: float = fields.field(0.1, ge=0)
    hold: int = fields.field(4, ge=1)
    max_steps: int = fields.field(32, ge=1)

    @property
    def name(self) -> str:
        """`pointmass`: the world has one level."""
        return "pointmass"

    def spec(self) -> Spec:
        """Observation [4], two actions in [-1, 1]."""
        obs = jax.ShapeDtypeStruct((4,), jnp.float32)
        return Spec(obs=obs, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), max_steps=self.max_steps)

    def load(self) -> Level:
        """What may differ inside one compiled program: speed, radius and noise."""
        return {name: jnp.float32(getattr(self, name)) for name in ("speed", "radius", "action_noise")}

    def level_id(self) -> int:
        """The first 32 bits of the configuration's digest."""
        return int(fields.digest(fields.content(self))[:8], 16)

    def program(self) -> dict[str, str | int]:
        """The two counts that `step` closes over."""
        return {"_target_": fields.qualified_name(type(self)), "hold": self.hold, "max_steps": self.max_steps}

    def reset(self, level: Level, key: Key[Array, ""]) -> State:
        """At rest, the goal drawn from `key`."""
        offset = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return State(offset, jnp.zeros(2), docked=jnp.int32(0), step=jnp.int32(0))

    def observe(self, level: Level, state: State) -> Float[Array, "4"]:
        """Offset to the goal, then velocity."""
        return jnp.concatenate([state.offset, state.velocity])

    def step(self, level: Level, state: State, action: Float[Array, "2"], key: Key[Array, ""]) -> tuple[State, Outcome]:
        """Move by the clipped action and noise; reward 1 on docking, shaping = the distance gained."""
        noise = level["action_noise"] * jax.random.normal(key, (2,))
        velocity = level["speed"] * (jnp.clip(action, -1.0, 1.0) + noise)
        offset = state.offset - velocity
        before, after = jnp.linalg.norm(state.offset), jnp.linalg.norm(offset)
        docked = jnp.where(after <= level["radius"], state.docked + 1, 0)
        following = State(offset, velocity, docked, state.step + 1)
        solved = docked >= self.hold
        done = solved | (following.step >= self.max_steps)
        return following, Outcome(solved.astype(jnp.float32), before - after, done, solved)

    def optimal_action(self, level: Level, state: State) -> Float[Array, "2"]:
        """The action that brings the point nearest to the goal, which is also the quickest way to dock."""
        return jnp.clip(state.offset / level["speed"], -1.0, 1.0)

"""One physics step of a Kinetix level, as jax2d takes it."""

import jax.numpy as jnp
from jax2d.sim_state import SimParams
from jaxtyping import Array, Float, Int

from dd.env import contacts as touching
from dd.env import solver
from dd.env.contacts import Contacts, cross, nonzero, turned
from dd.env.scene import Bodies, Joints, Matter, Scene, Thrusters
from dd.env.solver import Impulses, Rounds

PHYSICS = SimParams()
GRAVITY = -9.81


def advance(
    scene: Scene, order: Rounds, bodies: Bodies, impulses: Impulses, action: Float[Array, "a"]
) -> tuple[Bodies, Impulses, tuple[Contacts, ...]]:
    """Advance by 1/60 s.

    Args:
        scene: the level.
        order: of the uncut level.
        bodies, impulses: the state.
        action: motors in [-1, 1], then thrusters in [0, 1], clipped here.

    Returns:
        The state after, and the contacts that were solved: polygons (first and second points), circle and polygon, circles.
    """
    moves = scene.matter.inverse_mass != 0
    fall = jnp.stack([jnp.zeros_like(bodies.spin), GRAVITY * PHYSICS.dt * moves])
    bodies = bodies._replace(velocity=bodies.velocity + fall)
    found = touching.find(scene, bodies)
    bodies = _thrust(scene.thrusters, scene.matter, _drive(scene.joints, scene.matter, bodies, action), action)
    bodies, impulses = solver.solve(scene, order, bodies, impulses, found)
    move = PHYSICS.dt * bodies.velocity
    bodies = Bodies(
        position=jnp.clip(bodies.position + move, -PHYSICS.clip_position, PHYSICS.clip_position),
        velocity=jnp.clip(bodies.velocity, -PHYSICS.clip_velocity, PHYSICS.clip_velocity),
        angle=bodies.angle + PHYSICS.dt * bodies.spin,
        spin=jnp.clip(bodies.spin, -PHYSICS.clip_angular_velocity, PHYSICS.clip_angular_velocity),
    )
    return bodies, impulses, found


def _drive(joints: Joints, matter: Matter, bodies: Bodies, action: Float[Array, "a"]) -> Bodies:
    """Motors: torque toward the asked speed, weaker near a joint's limit."""
    asked = jnp.clip(action[joints.action], -1.0, 1.0)
    inertia = 1.0 / nonzero(matter.inverse_inertia[joints.a] + matter.inverse_inertia[joints.b])
    excess = bodies.spin[joints.b] - bodies.spin[joints.a] - joints.speed * asked * PHYSICS.base_motor_speed
    rotation = bodies.angle[joints.b] - bodies.angle[joints.a] - joints.rotation
    margin = PHYSICS.motor_joint_limit
    beyond = rotation - jnp.clip(rotation, joints.low + margin, joints.high - margin)
    free = (beyond == 0) | ~joints.limits
    weakened = jnp.where(free, 1.0, jnp.maximum(0.0, 1.0 - jnp.abs(beyond) / margin))
    share = jnp.maximum(weakened, jnp.sign(beyond) != jnp.sign(asked))
    torque = PHYSICS.base_motor_power * joints.power * PHYSICS.dt * inertia * share
    torque = torque * jnp.tanh(excess * PHYSICS.motor_decay_coefficient)
    torque = jnp.where(joints.on & joints.motor & ~joints.fixed & (asked != 0), torque, 0.0)
    spin = bodies.spin.at[joints.a].add(torque * matter.inverse_inertia[joints.a])
    return bodies._replace(spin=spin.at[joints.b].add(-torque * matter.inverse_inertia[joints.b]))


def _thrust(thrusters: Thrusters, matter: Matter, bodies: Bodies, action: Float[Array, "a"]) -> Bodies:
    """Thrusters: a push at a place of a shape."""
    shape = thrusters.shape
    force = PHYSICS.base_thruster_power * PHYSICS.dt * thrusters.power * jnp.clip(action[thrusters.action], 0.0, 1.0)
    heading = thrusters.rotation + bodies.angle[shape]
    push = force * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    arm = turned(bodies.angle[shape], thrusters.place)
    return bodies._replace(
        velocity=bodies.velocity.at[:, shape].add(matter.inverse_mass[shape] * push),
        spin=bodies.spin.at[shape].add(matter.inverse_inertia[shape] * cross(arm, push)),
    )

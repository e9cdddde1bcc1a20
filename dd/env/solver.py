"""jax2d's sequential-impulse solver, with the contacts sorted into rounds once per physics step.

jax2d spreads the active contacts of each kind over rounds; those of one round are solved at once, the rounds one after the
other. The rounds here are those of the uncut level, so that leaving entities out changes nothing but rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax2d.sim_state import SimParams, StaticSimParams
from jaxtyping import Array, Bool, Float, Int, PyTree

from dd.env.contacts import Contacts, cross, dot, nonzero, spun, turned
from dd.env.level import Sizes
from dd.env.scene import Bodies, Joints, Matter, Scene, pair_indices

PHYSICS = SimParams()
SOLVER = StaticSimParams()


class Impulses(NamedTuple):
    """What the solver starts from: the impulses of the step before.

    Attributes:
        normal, tangent: of each contact point: two for each pair of polygons (all first ones first), then one for others.
        joint: linear, of each joint; `turn`: rotational.
    """

    normal: Float[Array, "n"]
    tangent: Float[Array, "n"]
    joint: Float[Array, "j 2"]
    turn: Float[Array, "j"]


class Rounds(NamedTuple):
    """How the uncut level's solver spreads the contacts of each kind of pair over rounds.

    Attributes:
        counts: rounds per kind: polygons, circle and polygon, circles.
        last: index of the last pair of each kind, modulo the rounds.
        forgetful: the pair of each kind whose impulses are never remembered, or None.
    """

    counts: tuple[int, int, int]
    last: tuple[int, int, int]
    forgetful: tuple[tuple[int, int] | None, ...]


def rounds(uncut: Sizes) -> Rounds:
    """jax2d solves contacts in batches of 16; where a batch isn't full, its filling overwrites the last pair's impulse."""
    listed = pair_indices(uncut)
    counts = tuple(-(-len(each) // SOLVER.solver_batch_size) for each in listed)
    last = tuple((len(each) - 1) % max(count, 1) for each, count in zip(listed, counts, strict=True))
    filled = [len(each) % SOLVER.solver_batch_size for each in listed]
    forgetful = tuple(tuple(map(int, each[-1])) if part else None for each, part in zip(listed, filled, strict=True))
    return Rounds(counts, last, forgetful)


def at_rest(scene: Scene) -> Impulses:
    """No impulses: an episode's start."""
    rr, cr, cc = (each.a.shape[0] for each in scene.pairs)
    joints = scene.joints.a.shape[0]
    points = jnp.zeros(2 * rr + cr + cc)
    return Impulses(points, points, jnp.zeros((joints, 2)), jnp.zeros(joints))


class _Point(NamedTuple):
    """Contact points to solve. Where a slot of a round is empty, all is 0, and nothing moves.

    Attributes:
        a, b: the two shapes.
        mass: inverse masses of the two, [2, ...]; `inertia`: inverse inertias.
        normal, point: see `Contacts`.
        target: the speed along the normal to reach: what restitution asks, and a push out of penetration.
        friction: largest tangent impulse, as a share of the normal one.
        kept: 0 where the impulse is forgotten at once, else 1.
    """

    a: Int[Array, "*n"]
    b: Int[Array, "*n"]
    mass: Float[Array, "2 *n"]
    inertia: Float[Array, "2 *n"]
    normal: Float[Array, "2 *n"]
    point: Float[Array, "2 *n"]
    target: Float[Array, "*n"]
    friction: Float[Array, "*n"]
    kept: Float[Array, "*n"]


def solve(
    scene: Scene, order: Rounds, bodies: Bodies, impulses: Impulses, found: tuple[Contacts, ...]
) -> tuple[Bodies, Impulses]:
    """Find velocities that keep joints together and contacts apart; joints are pulled together in place, too.

    Args:
        scene, order: the level, and the rounds of the uncut one.
        bodies: before.
        impulses: of the step before.
        found: contact points: first and second of two polygons, of circle and polygon, of two circles.
    """
    points = _points(scene, found)
    live = jnp.concatenate([each.active for each in found]) & (points.mass.sum(0) > 0)
    start = (jnp.where(live, impulses.normal, 0.0), jnp.where(live, impulses.tangent, 0.0))
    pull = _pulls(scene.joints, scene.matter, bodies)
    bodies = _warm(points, pull, bodies, start, impulses)

    slots = _schedule(scene, order, found)
    rounds, *start = (_take(each, slots) for each in (points, *start))

    def iterate(carry: tuple, _: None) -> tuple[tuple, None]:
        bodies, normal, tangent, joint, turn = carry
        bodies, (joint, turn) = jax.lax.scan(_pull_joint, bodies, (pull, joint, turn))
        bodies, (normal, tangent) = jax.lax.scan(_push_contacts, bodies, (rounds, normal, tangent))
        return (bodies, normal, tangent, joint, turn), None

    first = (bodies, *start, impulses.joint, impulses.turn)
    (bodies, normal, tangent, joint, turn), _ = jax.lax.scan(iterate, first, None, length=SOLVER.num_solver_iterations)
    empty = jnp.zeros_like(impulses.normal)
    normal, tangent = (empty.at[slots].set(each, mode="drop") for each in (normal, tangent))
    return bodies, Impulses(normal, tangent, joint, turn)


class _Pull(NamedTuple):
    """What a joint does, constant through a step; all masses are 0 where it does nothing.

    Attributes:
        a, b: the two shapes.
        on: the joint does something.
        mass: inverse masses of the two, [j, 2]; `inertia`: inverse inertias; `share`: each one's part in the joint's place.
        a_arm, b_arm: from the shape's centre to the joint.
        twists: the joint also corrects rotation: a fixed joint, or one beyond its limit.
        fixed: it always does.
        bias: radians/s by which rotation is corrected.
    """

    a: Int[Array, "*j"]
    b: Int[Array, "*j"]
    on: Bool[Array, "*j"]
    mass: Float[Array, "*j 2"]
    inertia: Float[Array, "*j 2"]
    share: Float[Array, "*j 2"]
    a_arm: Float[Array, "*j 2"]
    b_arm: Float[Array, "*j 2"]
    twists: Bool[Array, "*j"]
    fixed: Bool[Array, "*j"]
    bias: Float[Array, "*j"]


def _pulls(joints: Joints, matter: Matter, bodies: Bodies) -> _Pull:
    both = jnp.stack([joints.a, joints.b], axis=1)
    mass, inertia = (jnp.where(joints.on[:, None], each[both], 0.0) for each in (matter[0], matter[1]))
    # The joint lies at the two shapes' centre of mass, or on the one that is immovable.
    weight = 1 / nonzero(mass)
    share = jnp.where(mass.min(1, keepdims=True) == 0, mass == 0, weight / weight.sum(1, keepdims=True))
    rotation = bodies.angle[joints.b] - bodies.angle[joints.a] - joints.rotation
    beyond = rotation - jnp.clip(rotation, joints.low, joints.high)
    limit, fix = PHYSICS.baumgarte_coefficient_rjoint_limit_av, PHYSICS.baumgarte_coefficient_fjoint_av
    return _Pull(
        *(joints.a, joints.b, joints.on, mass, inertia, share),
        a_arm=turned(bodies.angle[joints.a], joints.a_anchor).T,
        b_arm=turned(bodies.angle[joints.b], joints.b_anchor).T,
        twists=joints.on & (joints.fixed | (joints.limits & (beyond != 0))),
        fixed=joints.fixed,
        bias=jnp.where(joints.fixed, rotation * fix, beyond * limit),
    )


def _points(scene: Scene, found: tuple[Contacts, ...]) -> _Point:
    contacts = jax.tree.map(lambda *kinds: jnp.concatenate(kinds, axis=-1), *found)
    rr, cr, cc = scene.pairs
    pairs = jax.tree.map(lambda *kinds: jnp.concatenate(kinds), rr, rr, cr, cc)
    matter, both = scene.matter, jnp.stack([pairs.a, pairs.b])
    live = contacts.active & pairs.resolve
    push = PHYSICS.baumgarte_coefficient_collision / PHYSICS.dt * jnp.maximum(0.0, contacts.depth - PHYSICS.slop)
    rough = PHYSICS.base_friction * matter.friction[both]
    return _Point(
        *(pairs.a, pairs.b),
        mass=jnp.where(live, matter.inverse_mass[both], 0.0),
        inertia=jnp.where(live, matter.inverse_inertia[both], 0.0),
        normal=contacts.normal,
        point=contacts.point,
        target=push - contacts.bounce,
        friction=jnp.sqrt(rough[0] ** 2 + rough[1] ** 2),
        kept=pairs.remember.astype(jnp.float32),
    )


def _schedule(scene: Scene, order: Rounds, found: tuple[Contacts, ...]) -> Int[Array, "r l"]:
    """The contact points that each round solves; the number of all points stands for an empty slot.

    Of the contacts of one kind that are active, the last goes into the last pair's round, each one before it into the round
    before, and around again.
    """
    sizes = [each.a.shape[0] for each in scene.pairs]
    lanes = max(-(-size // count) for size, count in zip(sizes, order.counts, strict=True))
    empty = 2 * sizes[0] + sizes[1] + sizes[2]

    def kind(index: int, contacts: Contacts, offset: int) -> Int[Array, "r l"]:
        count, active = order.counts[index], contacts.active.astype(jnp.int32)
        later = active.sum() - jnp.cumsum(active)
        place = (order.last[index] - later) % count * lanes + later // count
        place = jnp.where(contacts.active & scene.pairs[index].resolve, place, count * lanes)
        slots = jnp.full(count * lanes, empty, jnp.int32)
        numbered = offset + jnp.arange(sizes[index], dtype=jnp.int32)
        return slots.at[place].set(numbered, mode="drop").reshape(count, lanes)

    first, _, cr, cc = found
    starts = (0, sizes[0], 2 * sizes[0], 2 * sizes[0] + sizes[1])
    # The second points of two polygons are solved in the rounds of the first ones.
    kinds = zip((0, 0, 1, 2), (first, first, cr, cc), starts, strict=True)
    return jnp.concatenate([kind(*each) for each in kinds])


def _take(values: PyTree[Array], slots: Int[Array, "r l"]) -> PyTree[Array]:
    """Arrays over contact points, [..., n], as arrays over rounds, [r, ..., l]."""
    return jax.tree.map(lambda x: jnp.moveaxis(jnp.take(x, slots, axis=-1, mode="fill", fill_value=0), -2, 0), values)


def _moved(
    bodies: Bodies, shape: Int[Array, "k"], velocity: Float[Array, "2 k"], spin: Float[Array, "k"]
) -> Bodies:
    """Add changes of velocity, several of which may belong to one shape."""
    change = _gathered(shape, jnp.concatenate([velocity, spin[None]]), bodies.spin.shape[0])
    return bodies._replace(velocity=bodies.velocity + change[:2], spin=bodies.spin + change[2])


def _gathered(shape: Int[Array, "k"], change: Float[Array, "c k"], shapes: int) -> Float[Array, "c s"]:
    # A sum over a mask: as a scatter it takes several times as long on a CPU.
    return jnp.where(shape[:, None] == jnp.arange(shapes), change[..., None], 0.0).sum(1)


def _warm(points: _Point, pull: _Pull, bodies: Bodies, start: tuple[Array, Array], impulses: Impulses) -> Bodies:
    normal, tangent = start
    push = normal * points.normal + tangent * _tangent(points.normal)
    bodies = _pushed(points, bodies, push)
    joint, turn = impulses.joint.T, impulses.turn
    twist = jnp.stack([cross(pull.a_arm.T, joint) + turn, -cross(pull.b_arm.T, joint) - turn]) * pull.inertia.T
    linear = jnp.stack([joint, -joint], axis=1) * pull.mass.T
    both = jnp.concatenate([pull.a, pull.b])
    return _moved(bodies, both, linear.reshape(2, -1), twist.ravel())


def _tangent(normal: Float[Array, "2 n"]) -> Float[Array, "2 n"]:
    return jnp.stack([normal[1], -normal[0]])


def _pushed(points: _Point, bodies: Bodies, push: Float[Array, "2 l"]) -> Bodies:
    """Apply impulses at contact points: `push` on the second shape, its opposite on the first."""
    velocity, spin = [], []
    for shape, sign, mass, inertia in zip((points.a, points.b), (-1, 1), points.mass, points.inertia, strict=True):
        arm = points.point - bodies.position[:, shape]
        velocity.append(sign * mass * push)
        spin.append(sign * inertia * cross(arm, push))
    both = jnp.concatenate([points.a, points.b])
    return _moved(bodies, both, jnp.concatenate(velocity, axis=1), jnp.concatenate(spin))


def _push_contacts(
    bodies: Bodies, row: tuple[_Point, Float[Array, "l"], Float[Array, "l"]]
) -> tuple[Bodies, tuple[Float[Array, "l"], Float[Array, "l"]]]:
    """One round: impulses that stop contacts from closing, then friction against what slides, within its cone."""
    points, normal, tangent = row
    arms = [points.point - bodies.position[:, shape] for shape in (points.a, points.b)]
    spins = [bodies.spin[shape] for shape in (points.a, points.b)]
    linear = [bodies.velocity[:, shape] for shape in (points.a, points.b)]

    def change(axis: Float[Array, "2 l"], impulse: Float[Array, "l"]) -> None:
        for i, sign in enumerate((-1, 1)):
            linear[i] = linear[i] + sign * points.mass[i] * impulse * axis
            spins[i] = spins[i] + sign * points.inertia[i] * cross(arms[i], impulse * axis)

    def needed(axis: Float[Array, "2 l"], speed: Float[Array, "l"]) -> Float[Array, "l"]:
        """The impulse along an axis that brings the relative speed there to `speed`."""
        first, second = (linear[i] + spun(spins[i], arms[i]) for i in (0, 1))
        lever = [points.inertia[i] * (dot(arms[i], arms[i]) - dot(arms[i], axis) ** 2) for i in (0, 1)]
        return (speed - dot(second - first, axis)) / nonzero(points.mass.sum(0) + lever[0] + lever[1])

    total = jnp.maximum(normal + needed(points.normal, points.target), 0.0)
    change(points.normal, total - normal)
    across = _tangent(points.normal)
    cone = points.friction * total
    sliding = jnp.clip(tangent + needed(across, jnp.zeros_like(total)), -cone, cone)
    push = (total - normal) * points.normal + (sliding - tangent) * across
    return _pushed(points, bodies, push), (points.kept * total, points.kept * sliding)


def _pull_joint(
    bodies: Bodies, row: tuple[_Pull, Float[Array, "2"], Float[Array, ""]]
) -> tuple[Bodies, tuple[Float[Array, "2"], Float[Array, ""]]]:
    """One joint: an impulse that brings its two ends together, a shift in place, and a correction of rotation."""
    pull, joint, turn = row
    both = jnp.stack([pull.a, pull.b])
    arms = jnp.stack([pull.a_arm, pull.b_arm], axis=1)
    place, spin = bodies.position[:, both], bodies.spin[both]
    ends = place + arms
    gap = ends[:, 1] - ends[:, 0]
    middle = (pull.share * ends).sum(1)
    speed = bodies.velocity[:, both] + spun(spin, middle[:, None] - place)
    apart = speed[:, 1] - speed[:, 0]
    heading = apart / nonzero(jnp.sqrt(dot(apart, apart)))
    mass = nonzero(pull.mass.sum())
    yielding = mass + (cross(arms, heading[:, None]) ** 2 * pull.inertia).sum()
    impulse = PHYSICS.joint_stiffness * (apart + PHYSICS.baumgarte_coefficient_joints_v * gap) / nonzero(yielding)

    sign = jnp.array([1.0, -1.0])
    twist = sign * cross(arms, impulse[:, None]) * pull.inertia
    excess = spin[1] + twist[1] - spin[0] - twist[0]
    resisted = pull.fixed | (jnp.sign(excess) == jnp.sign(pull.bias))
    correction = jnp.where(pull.twists & resisted, (excess + pull.bias) / nonzero(pull.inertia.sum()), 0.0)
    shift = PHYSICS.baumgarte_coefficient_joints_p * (gap / mass)[:, None] * sign * pull.mass
    change = jnp.concatenate(
        [impulse[:, None] * sign * pull.mass, (twist + sign * correction * pull.inertia)[None], shift]
    )
    change = _gathered(both, change, bodies.spin.shape[0])
    bodies = bodies._replace(
        velocity=bodies.velocity + change[:2], spin=bodies.spin + change[2], position=bodies.position + change[3:]
    )
    turn = jnp.where(pull.on & pull.fixed, correction + turn, 0.0)
    return bodies, (jnp.where(pull.on, impulse + joint, 0.0), turn)

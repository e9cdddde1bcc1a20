"""Polygons touch where jax2d says."""

import jax
import jax.numpy as jnp
import numpy as np
from jax2d.collision import generate_manifolds_polygon_polygon
from jax2d.sim_state import CollisionManifold, RigidBody

from dd.env.polygons import touch
from dd.env.scene import Bodies, Scene
from dd.env.worlds import worlds_last

WORLDS, SHAPES = 400, 4


def shapes(rng):
    """Boxes and triangles, clockwise from the top left, their centres at 0."""
    vertices = np.zeros((SHAPES, 4, 2), np.float32)
    for i in range(SHAPES):
        x, y = rng.uniform(0.3, 0.8, 2)
        vertices[i] = [[-x, y], [x, y], [x, -y], [-x, -y]]
    vertices[2:, 3] = 0.0
    return RigidBody(
        position=np.zeros((SHAPES, 2), np.float32),
        rotation=np.zeros(SHAPES, np.float32),
        velocity=np.zeros((SHAPES, 2), np.float32),
        angular_velocity=np.zeros(SHAPES, np.float32),
        inverse_mass=np.ones(SHAPES, np.float32),
        inverse_inertia=np.ones(SHAPES, np.float32),
        friction=np.ones(SHAPES, np.float32),
        restitution=rng.uniform(0, 1, SHAPES).astype(np.float32),
        collision_mode=np.array([1, 2, 1, 0]),
        active=np.array([True, True, True, True]),
        n_vertices=np.array([4, 4, 3, 3]),
        vertices=vertices,
        radius=np.zeros(SHAPES, np.float32),
    )


def test_random_poses_touch_as_in_jax2d():
    rng = np.random.default_rng(0)
    pairs = np.array([(a, b) for a in range(SHAPES) for b in range(a + 1, SHAPES)], np.int32)
    described = jax.tree.map(jnp.asarray, shapes(rng))
    scene = Scene(described, None, None, jnp.ones((SHAPES, SHAPES), bool), jnp.zeros(2))
    bodies = Bodies(
        *(
            jnp.asarray(rng.normal(size=(WORLDS, SHAPES, *rest)) * spread, jnp.float32)
            for rest, spread in (((2,), 0.6), ((), 2.0), ((2,), 1.0), ((), 1.0))
        )
    )
    held = jnp.asarray(rng.uniform(0, 1, (WORLDS, 2, 2, len(pairs))), jnp.float32)
    own = jax.jit(jax.vmap(worlds_last(lambda *each: touch(pairs, *each)), (None, 0, 0)))(scene, bodies, held)

    def theirs(bodies, held):
        placed = described.replace(**bodies._asdict())
        first, second = (jax.tree.map(lambda x, side=side: x[side], placed) for side in pairs.T)
        normal, tangent = held[:, 0].T, held[:, 1].T
        before = CollisionManifold(normal, normal, normal, jnp.ones_like(normal, bool), normal, tangent, normal)
        found = jax.vmap(generate_manifolds_polygon_polygon)(first, second, before)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), found)

    expected = jax.jit(jax.vmap(theirs))(bodies, held)
    np.testing.assert_array_equal(own.active, expected.active)
    assert 0.1 < np.mean(own.active[:, 0]) < 0.9
    assert np.mean(own.active[:, 1]) > 0.03
    assert not own.active[:, :, (pairs == [2, 3]).all(axis=1)].any()  # collision modes 1 and 0
    for name in CollisionManifold.__dataclass_fields__:
        np.testing.assert_allclose(getattr(own, name), getattr(expected, name), atol=2e-5, err_msg=name)

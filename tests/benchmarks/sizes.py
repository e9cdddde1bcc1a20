"""The networks that are measured, and the world they are measured for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dd.env.base import Spec
from dd.model.mixer import Mixer

CHUNK = 8
SPEC = Spec(jax.ShapeDtypeStruct((679,), jnp.float32), (-1.0,) * 4 + (0.0,) * 2, (1.0,) * 6, max_steps=256)
"""Of the benchmark's large levels: 679 numbers are observed; four motors and two thrusters."""
OBS, ACTION = SPEC.obs.shape[0], len(SPEC.action_low)


class Size(NamedTuple):
    """A network and the batch it is trained on."""

    name: str
    model: Mixer
    batch: int
    num_bins: int


REFERENCE = Size("reference", Mixer(), 512, 128)
LAPTOP = Size("laptop", Mixer(num_layers=3, channel_dim=128, channel_hidden_dim=256), 256, 64)

"""Flow policies of the real-time-chunking benchmark: their parameters' layout, and the same network as a `Mixer`.

The benchmark's public code (arXiv 2506.07339) pickles a nested dict. With c channels, h actions in a chunk of a numbers
each, observations of o numbers, and x = [noisy action, observation] for every action of the chunk:

    in_proj                                     [a + o, c]   y = in_proj x
    time_mlp/layers/0, /2                       [c, c]       swish after each, on sines and cosines of the time
    mlp_stack/<i>/token_mix_in, token_mix_out   [h, k], [k, h]   no bias; GELU between
    mlp_stack/<i>/channel_mix_in, _out          [c, w], [w, c]   no bias; GELU between
    mlp_stack/<i>/adaln_1, adaln_2              [c, 3 c]     scale, shift and gate of the token and the channel mixing
    final_adaln                                 [c, 2 c]     scale and shift of the last norm
    out_proj                                    [c, a]       the velocity

each a `kernel` and, but for the mixings, a `bias`. Norms have no parameters. Its operations are those of a timed
`Mixer`, one by one, so the conversion is exact: kernels are cut or transposed, never computed with.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dd.model.mixer import Mixer

_MIXINGS = ("token_mix_in", "token_mix_out", "channel_mix_in", "channel_mix_out")

Flat = Mapping[str, np.ndarray]
"""Arrays by name, for instance `mlp_stack/0/adaln_1/bias`."""


class Sizes(NamedTuple):
    """What the arrays' shapes say: the backbone's sizes, h, o and a."""

    model: Mixer
    chunk: int
    obs_dim: int
    action_dim: int


def flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a nested dict by name; None, which stands where a layer has no such parameter, is left out.

    Raises:
        ValueError: for anything else among them, or an array of no finite floats.
    """
    found = dict(_leaves(tree, ""))
    for name, leaf in found.items():
        if not isinstance(leaf, np.ndarray) or leaf.dtype.kind != "f":
            raise ValueError(f"{name or 'the whole'} is no array of floats")
        if not np.isfinite(leaf).all():
            raise ValueError(f"{name} holds a number that is not finite")
    return found


def _leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list | tuple):
        for key, each in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(each, f"{name}/{key}" if name else str(key))
    elif tree is not None:
        yield name, tree


def sizes(found: Flat) -> Sizes:
    """The network's sizes.

    Raises:
        ValueError: where a name or a shape is not that of the layout.
    """
    layers = len({name.split("/")[1] for name in found if name.startswith("mlp_stack/")})
    action_in, channels = _matrix(found, "in_proj")
    _, action_dim = _matrix(found, "out_proj")
    chunk, token_hidden = _matrix(found, "mlp_stack/0/token_mix_in")
    _, channel_hidden = _matrix(found, "mlp_stack/0/channel_mix_in")
    model = Mixer(
        num_layers=layers,
        channel_dim=channels,
        channel_hidden_dim=channel_hidden,
        token_hidden_dim=token_hidden,
    )
    read = Sizes(model, chunk, action_in - action_dim, action_dim)
    shapes = _shapes(read)
    if odd := sorted(found.keys() ^ shapes.keys()):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in shapes else 'no part of the layout'}")
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(f"{name} has shape {list(found[name].shape)} where the others want {list(shape)}")
    return read


def _matrix(found: Flat, name: str) -> tuple[int, int]:
    kernel = found.get(f"{name}/kernel")
    if kernel is None or kernel.ndim != 2:
        raise ValueError(f"{name}/kernel is {'missing' if kernel is None else 'no matrix'}")
    return kernel.shape


def _shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
    c, w, k = of.model.channel_dim, of.model.channel_hidden_dim, of.model.token_hidden_dim
    h, a = of.chunk, of.action_dim
    linear = {"in_proj": (a + of.obs_dim, c), "final_adaln": (c, 2 * c), "out_proj": (c, a)}
    linear |= {f"time_mlp/layers/{i}": (c, c) for i in (0, 2)}
    linear |= {f"mlp_stack/{i}/adaln_{j}": (c, 3 * c) for i in range(of.model.num_layers) for j in (1, 2)}
    mixing = {
        f"mlp_stack/{i}/{name}": shape
        for i in range(of.model.num_layers)
        for name, shape in zip(_MIXINGS, ((h, k), (k, h), (c, w), (w, c)), strict=True)
    }
    kernels = {f"{name}/kernel": shape for name, shape in (linear | mixing).items()}
    return kernels | {f"{name}/bias": shape[1:] for name, shape in linear.items()}


def parameters(found: Flat) -> dict[str, Any]:
    """The arrays as those of the `Mixer` of `sizes(found)`, nested as its network's parameters are."""
    of = sizes(found)
    action_in, obs_in = np.split(found["in_proj/kernel"], [of.action_dim])
    scale, shift = _parts(found, "final_adaln", 2)
    return {
        "action_in": {"kernel": action_in},
        "obs_in": {"kernel": obs_in, "bias": found["in_proj/bias"]},
        "time_in": {"inner": _linear(found, "time_mlp/layers/0"), "outer": _linear(found, "time_mlp/layers/2")},
        "branches": {
            2 * i + j: branch
            for i in range(of.model.num_layers)
            for j, branch in enumerate(_branches(found, f"mlp_stack/{i}"))
        },
        "norm": {"scale": scale, "shift": shift},
        "out": _linear(found, "out_proj"),
    }


def _branches(found: Flat, name: str) -> Iterator[dict[str, Any]]:
    token_in, token_out, channel_in, channel_out = (found[f"{name}/{each}/kernel"] for each in _MIXINGS)
    for adaln, widen, narrow in (("adaln_1", token_in.T, token_out), ("adaln_2", channel_in, channel_out)):
        scale, shift, gate = _parts(found, f"{name}/{adaln}", 3)
        mixing = {"widen": widen, "narrow": narrow}
        yield {"norm": {"scale": scale, "shift": shift}, "gate": gate, "mixing": mixing}


def _linear(found: Flat, name: str) -> dict[str, np.ndarray]:
    return {"kernel": found[f"{name}/kernel"], "bias": found[f"{name}/bias"]}


def _parts(found: Flat, name: str, count: int) -> list[dict[str, np.ndarray]]:
    """One linear layer as several, side by side in its output."""
    pairs = zip(*(np.split(x, count, axis=-1) for x in _linear(found, name).values()), strict=True)
    return [{"kernel": kernel, "bias": bias} for kernel, bias in pairs]

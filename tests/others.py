"""What others publish, made anew: parameters and demonstrations in the real-time-chunking benchmark's layout."""

import numpy as np

PERIODS = 4e-3, 4.0


def parameters(layers=2, channels=8, channel_hidden=12, token_hidden=6, chunk=4, obs_dim=4, action_dim=2, seed=0):
    """The nested dict that the benchmark's code pickles; all is drawn, so that no part of the network is shut."""
    draw = np.random.default_rng(seed)

    def kernel(*shape):
        return {"kernel": (draw.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)}

    def linear(*shape):
        return kernel(*shape) | {"bias": 0.3 * draw.normal(size=shape[1]).astype(np.float32)}

    none = {"bias": None, "scale": None}
    blocks = {
        i: {
            "token_mix_in": kernel(chunk, token_hidden) | {"bias": None},
            "token_mix_out": kernel(token_hidden, chunk) | {"bias": None},
            "channel_mix_in": kernel(channels, channel_hidden) | {"bias": None},
            "channel_mix_out": kernel(channel_hidden, channels) | {"bias": None},
            "norm_1": none,
            "norm_2": none,
            "adaln_1": linear(channels, 3 * channels),
            "adaln_2": linear(channels, 3 * channels),
        }
        for i in range(layers)
    }
    return {
        "in_proj": linear(action_dim + obs_dim, channels),
        "mlp_stack": blocks,
        "time_mlp": {"layers": {0: linear(channels, channels), 2: linear(channels, channels)}},
        "final_norm": none,
        "final_adaln": linear(channels, 2 * channels),
        "out_proj": linear(channels, action_dim),
    }


def velocity(tree, obs, x, time):
    """The network of those parameters in float64: obs [b, o], x [b, h, a], one time; [b, h, a].

    But for the time's angles: these reach 1,570 radians, which everybody's float32 rounds by up to 6e-5.
    """

    def linear(layer, x):
        bias = layer.get("bias")
        return x @ layer["kernel"].astype(np.float64) + (0.0 if bias is None else bias)

    def swish(x):
        return x / (1.0 + np.exp(-x))

    def gelu(x):
        return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    half = tree["out_proj"]["kernel"].shape[0] // 2
    shortest, longest = PERIODS
    frequency = 2 * np.pi / (shortest * (longest / shortest) ** np.linspace(0, 1, half))
    angle = (np.float32(time) * frequency.astype(np.float32)).astype(np.float64)
    first, second = (tree["time_mlp"]["layers"][i] for i in (0, 2))
    embedded = swish(linear(second, swish(linear(first, np.concatenate([np.sin(angle), np.cos(angle)])))))
    y = linear(tree["in_proj"], np.concatenate([x, np.repeat(obs[:, None], x.shape[1], axis=1)], axis=-1))
    for block in tree["mlp_stack"].values():
        scale, shift, gate = np.split(linear(block["adaln_1"], embedded), 3)
        mixed = np.swapaxes(norm(y) * (1 + scale) + shift, 1, 2)
        mixed = linear(block["token_mix_out"], gelu(linear(block["token_mix_in"], mixed)))
        y = y + gate * np.swapaxes(mixed, 1, 2)
        scale, shift, gate = np.split(linear(block["adaln_2"], embedded), 3)
        mixed = norm(y) * (1 + scale) + shift
        y = y + gate * linear(block["channel_mix_out"], gelu(linear(block["channel_mix_in"], mixed)))
    scale, shift = np.split(linear(tree["final_adaln"], embedded), 2)
    return linear(tree["out_proj"], norm(y) * (1 + scale) + shift)


def recording(steps=120, envs=8, obs_dim=4, action_dim=2, length=20, seed=0):
    """Steps x environments first; the actions follow the observation's signs, every other episode is solved.

    `solved` holds what it likes where no episode ends.
    """
    draw = np.random.default_rng(seed)
    obs = draw.normal(size=(steps, envs, obs_dim)).astype(np.float32)
    done = np.broadcast_to((np.arange(steps) % length == length - 1)[:, None], (steps, envs)).copy()
    episode = np.arange(steps) // length
    return {
        "obs": obs,
        "action": np.where(obs[..., :action_dim] > 0, 0.8, -0.8).astype(np.float32),
        "done": done,
        "solved": np.where(done, (episode % 2 == 0)[:, None], draw.integers(0, 2, (steps, envs))).astype(np.float32),
        "return_": np.zeros((steps, envs), np.float32),
        "length": np.full((steps, envs), length, np.int32),
    }

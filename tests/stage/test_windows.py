"""Windows over streams of demonstrations: what belongs to a chunk."""

import jax.numpy as jnp
import numpy as np

from dd.stage import windows

DONE = np.array(
    [
        [0, 0, 1, 0, 0, 0, 1],  # two episodes, the second ends with the stream
        [0, 1, 1, 0, 0, 0, 0],  # one of a single step, one that does not end
    ],
    bool,
)
ACTION = (1 + np.arange(14, dtype=np.float32)).reshape(2, 7, 1) * np.array([1, -1], np.float32)


def test_episodes_are_numbered_through_all_streams_and_end_with_their_ending_step():
    assert windows.episode_numbers(DONE).tolist() == [[0, 0, 0, 1, 1, 1, 1], [2, 2, 3, 4, 4, 4, 4]]


def test_a_stream_that_ends_with_its_episode_leaves_no_number_out():
    """As many numbers as there are episodes, begun or ended, whatever the streams look like."""
    done = np.random.default_rng(0).random((50, 40)) < 0.2
    numbers = windows.episode_numbers(done)
    assert (np.unique(numbers) == np.arange(numbers.max() + 1)).all()
    assert numbers.max() + 1 == done.sum() + (~done[:, -1]).sum()
    inside = np.diff(numbers, axis=1)
    assert (inside == done[:, :-1]).all()


def test_windows_stay_within_their_stream():
    """Of 7 steps 5 begin a window of 3; windows across two streams would begin at 5 and 6."""
    assert windows.starts(DONE, 3).tolist() == [[True] * 5 + [False] * 2] * 2
    assert windows.starts(DONE, 7).sum() == 2
    assert windows.starts(DONE, 8).sum() == 0


def chunk_of(start, size):
    return np.asarray(windows.chunks(jnp.asarray(ACTION), jnp.asarray(DONE), jnp.asarray(start), size))


def test_actions_are_zero_from_the_one_that_ends_the_episode_on():
    """The ending action too: it is the benchmark's rule. A chunk that begins after it is whole again."""
    start = np.arange(5)
    expected = [[1, 2, 0], [2, 0, 0], [0, 0, 0], [4, 5, 6], [5, 6, 0]]
    found = chunk_of(start, 3)
    assert found[..., 0].tolist() == expected
    assert (found[..., 1] == -found[..., 0]).all()
    assert chunk_of(np.array([7, 8, 10]), 3)[..., 0].tolist() == [[8, 0, 0], [0, 0, 0], [11, 12, 13]]


def test_the_rule_agrees_with_a_loop_over_random_streams():
    random = np.random.default_rng(1)
    done = random.random((6, 30)) < 0.1
    action = random.normal(size=(6, 30, 2)).astype(np.float32)
    start = np.flatnonzero(windows.starts(done, 8).reshape(-1))
    found = np.asarray(windows.chunks(jnp.asarray(action), jnp.asarray(done), jnp.asarray(start), 8))
    for chunk, first in zip(found, start, strict=True):
        stream, step = divmod(int(first), 30)
        over = False
        for h in range(8):
            over |= bool(done[stream, step + h])
            assert (chunk[h] == (0 if over else action[stream, step + h])).all()

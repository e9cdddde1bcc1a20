"""Laws of the expert: PPO's parts, resumption, compact checkpoints."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.env.pointmass import PointMass
from dd.errors import UserError
from dd.model import actor
from dd.stage import checkpoints, expert, ppo, probe
from dd.stage.expert import Expert, Window
from dd.stage.ppo import PPO

WORLD = PointMass(radius=0.25, hold=2)
SETTINGS = PPO(num_envs=32, num_steps=64, hidden_dim=32, learning_rate=2e-3, gamma=0.99)
EXPERT = Expert(
    env=WORLD,
    ppo=SETTINGS,
    total_steps=80_000,
    checkpoint_steps=16_384,
    num_checkpoints=3,
    stop_windows=2,
    num_evals=80,
)

COLUMNS = probe.padded(np.ones(4, bool))


class Killed(BaseException):
    pass


class Work:
    """A stage's work folder; killed after a number of advances, if one is given."""

    def __init__(self, path, alive=math.inf):
        self.path, self.alive, self.lines = path, alive, []

    def result(self, stage):
        raise AssertionError("an expert has nothing upstream")

    def say(self, line):
        self.lines.append(line)

    @contextlib.contextmanager
    def progress(self, *, total, unit):
        yield self.advance

    def advance(self, amount):
        if amount:
            self.alive -= 1
        if self.alive < 0:
            raise Killed

    def log(self, metrics, step):
        assert all(math.isfinite(value) for value in metrics.values())


def network(draw, i, h, o, scale):
    shapes = ((i, h), (h,), (h, h), (h,), (h, o), (o,))
    return actor.Network(*(jnp.asarray(scale * draw.normal(size=shape), jnp.float32) for shape in shapes))


@pytest.fixture(scope="module")
def programs():
    return expert.compile_programs(WORLD, SETTINGS)


@pytest.fixture(scope="module")
def runner(programs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expert, "compile_programs", lambda *_: programs)
        return EXPERT.build()


@pytest.fixture(scope="module")
def trained(runner, tmp_path_factory):
    work = Work(tmp_path_factory.mktemp("trained"))
    return work, runner(EXPERT, work)


def test_pointmass_is_solved_and_training_stops_early(trained):
    work, summary = trained
    assert summary["solve_rates"][-1] >= 0.9
    assert summary["steps"][-1] < EXPERT.total_steps
    assert [window["solve_rate"] >= 0.95 for window in summary["windows"][-2:]] == [True, True]
    found = checkpoints.load(work.path)
    assert found.steps.tolist() == summary["steps"]
    np.testing.assert_allclose(found.solve_rates, summary["solve_rates"], atol=1e-6)


def test_an_interrupted_training_ends_with_the_same_bytes(runner, trained, tmp_path):
    with pytest.raises(Killed):
        runner(EXPERT, Work(tmp_path, alive=13))  # 8 updates a window: dies inside the second
    resumed = Work(tmp_path)
    work, summary = trained
    assert runner(EXPERT, resumed) == summary
    assert len(resumed.lines) == len(work.lines) - 1  # the first window is not done again
    assert (tmp_path / checkpoints.FILE).read_bytes() == (work.path / checkpoints.FILE).read_bytes()


def test_another_seed_is_another_training_of_the_same_program(runner, trained, tmp_path):
    other = Expert(**{**vars(EXPERT), "seed": 1, "total_steps": 16_384})
    assert other.program() != EXPERT.program()  # by total_steps alone
    assert Expert(**{**vars(EXPERT), "seed": 1}).program() == EXPERT.program()
    assert runner(other, Work(tmp_path))["windows"][0] != trained[1]["windows"][0]


def test_evaluation_runs_each_numbered_episode_to_its_end(programs, trained):
    """Slots whose episodes are short end more of them; only each slot's first 512 / 32 may count.

    Here even slots solve an episode every step, and odd ones lose one every fourth step: half are solved. Of the first
    512 to finish four fifths would be.
    """

    def play(policy, level, columns, slots, key):
        done = np.zeros((8, 32), bool)
        done[:, ::2] = True
        done[3::4] = True
        return slots, ppo.Steps(None, None, None, done, done & (np.arange(32) % 2 == 0))

    policy = jax.tree.map(lambda x: x[0], checkpoints.load(trained[0].path).actors)
    stage = Expert(**{**vars(EXPERT), "num_evals": 512})
    run = expert.Run(stage, trained[0], programs._replace(play=play), WORLD.load(), COLUMNS)
    assert run.solve_rate(policy) == 0.5


def test_a_window_without_an_ended_episode_has_no_solve_rate(programs, trained):
    assert Window(steps=10, solved=0, ended=0).solve_rate is None
    assert Window(steps=10, solved=1, ended=4).solve_rate == 0.25
    run = expert.Run(EXPERT, trained[0], programs, WORLD.load(), COLUMNS)
    full, empty = Window(1, 4, 4), Window(2, 0, 0)
    assert run.held([full, full])
    assert not run.held([full, empty])
    assert not run.held([full])


def test_a_loss_that_is_not_finite_names_update_and_way_out(programs, trained):
    run = expert.Run(EXPERT, trained[0], programs, WORLD.load(), COLUMNS)
    with pytest.raises(FloatingPointError, match=r"loss is nan at update 7.*learning_rate"):
        run.require_finite(math.nan, 7)


def test_advantages_equal_a_hand_computed_case():
    """Two steps with gamma = lambda = 1/2; the second column's episode ends with the first step."""
    reward = jnp.array([[1.0, 1.0], [2.0, 2.0]])
    values = jnp.array([[4.0, 4.0], [2.0, 2.0], [8.0, 8.0]])
    done = jnp.array([[False, True], [False, False]])
    # delta_1 = 2 + 8/2 - 2 = 4; delta_0 = 1 + 2/2 - 4 = -2, or 1 - 4 = -3 at the end of an episode.
    expected = [[-2 + 4 / 4, -3], [4, 4]]
    np.testing.assert_allclose(ppo.advantages(reward, values, done, 0.5, 0.5), expected)


def test_squashing_stays_in_range_and_is_tanh_or_sigmoid():
    u = jnp.array([[-30.0, -30.0, -30.0], [0.7, 0.7, 0.7], [30.0, 30.0, 30.0]])
    low, high = (-2.0, 0.0, 1.0), (2.0, 1.0, 4.0)
    squashed = actor.squash(u, low, high)
    np.testing.assert_allclose(squashed[0], low, atol=1e-6)
    np.testing.assert_allclose(squashed[2], high, atol=1e-6)
    sigmoid = 1 / (1 + math.exp(-0.7))
    np.testing.assert_allclose(squashed[1], [2 * math.tanh(0.7), sigmoid, 1 + 3 * sigmoid], rtol=1e-5)


@pytest.mark.parametrize(("alpha", "narrows"), [(0.0, True), (4.0, False)])
def test_rpo_keeps_the_policy_wide(alpha, narrows):
    """Actions near the mean are the better ones; yet as the mean moves in the loss, the spread is not to shrink."""
    settings = PPO(num_envs=8, num_steps=64, num_minibatches=1, hidden_dim=8, rpo_alpha=alpha, value_weight=0.0)
    zero = network(np.random.default_rng(0), 5, 8, 1, scale=0.0)  # the mean is 0
    policy = actor.Actor(zero, jnp.zeros(1))
    raw = jnp.linspace(-1.0, 1.0, 512)[:, None]
    density = ppo.log_density(policy, jnp.zeros((512, 1)), raw)
    batch = ppo.Batch(jnp.zeros((512, 5)), raw, density, -jnp.abs(raw[:, 0]), jnp.zeros(512))
    gradient = jax.jit(jax.grad(settings._loss))((policy, zero), batch, jax.random.key(2))[0]
    assert (float(gradient.log_std[0]) > 0) == narrows


def test_compact_and_spread_leave_actions_equal():
    """Half precision and dropped padding move no action by more than 1e-2; other columns are not read."""
    draw = np.random.default_rng(0)
    policy = actor.Actor(network(draw, 4 * 8 + 2, 16, 2, scale=0.3), jnp.zeros(2))
    columns = np.array([1, 4, 5, 9, 12, -1, -1, -1], np.int32)
    small = checkpoints.compact(policy, columns)
    assert small.mean.input.shape == (4 * 5 + 2, 16)
    assert small.mean.input.dtype == np.float16
    wider = np.array([0, 1, 4, 5, 7, 9, 12, 20, -1])
    wide = checkpoints.spread(small, columns[:5], wider)
    obs, last = (jnp.asarray(draw.normal(size=size), jnp.float32) for size in ((64, 4, 30), (64, 2)))

    @jax.jit
    def act(policy, columns):
        frames = jax.vmap(jax.vmap(lambda each: actor.select(each, columns)))(obs)
        mean = actor.apply(policy.mean, jax.vmap(actor.inputs)(actor.History(frames, last)))
        return actor.squash(mean, (-1.0, 0.0), (1.0, 1.0))

    before, after = act(policy, columns), act(wide, wider)
    assert float(jnp.abs(before).max()) > 0.5
    np.testing.assert_allclose(before, after, atol=1e-2)


def test_an_episode_of_a_mixture_acts_by_its_own_actor(trained):
    """Two experts over different columns: index 0 follows the first, whatever the second reads."""
    found = checkpoints.load(trained[0].path)
    other = found._replace(columns=np.array([0, 2, 5, 6], np.int32))
    mixture = checkpoints.mix([(found, 0), (other, 1)])
    assert mixture.columns.tolist() == [0, 1, 2, 3, 5, 6]
    obs = jnp.arange(8.0) / 8
    for index, (source, at) in enumerate([(found, 0), (other, 1)]):
        alone = checkpoints.mix([(source, at)])
        actions = []
        for each, number in ((mixture, index), (alone, 0)):
            actors, columns = jax.tree.map(jnp.asarray, each)
            history = actor.begin(actor.select(obs, columns), 2)
            draw = checkpoints.act(actors, jnp.int32(number), history, jax.random.key(3), (-1.0, -1.0), (1.0, 1.0))
            actions.append(np.asarray(draw))
        np.testing.assert_allclose(*actions, atol=1e-6)


def test_history_starts_full_and_drops_the_oldest():
    history = actor.begin(jnp.array([1.0, 2.0]), action_dim=1)
    history = actor.push(history, jnp.array([3.0, 4.0]), jnp.array([0.5]))
    np.testing.assert_allclose(actor.inputs(history), [1, 2, 1, 2, 1, 2, 3, 4, 0.5])


def test_only_entries_that_change_are_read():
    columns = probe.padded(np.arange(40) % 2 == 1)
    assert columns.tolist() == [*range(1, 40, 2), *[-1] * 12]
    varies = jax.jit(lambda level, key: probe.varying(PointMass(speed=0.2), level, key))(
        WORLD.load(), jax.random.key(0)
    )
    assert varies.tolist() == [True] * 4


def test_minibatches_must_divide_the_batch():
    with pytest.raises(UserError, match="num_minibatches=3"):
        PPO(num_minibatches=3)

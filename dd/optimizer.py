"""Optimizers: a learning rate over time, and AdamW."""

import abc
import math
from collections.abc import Sequence

import optax

from dd import fields
from dd.errors import UserError

_LOWER = 1e-4  # share by which a loss must be lower to count as lower


class AbstractLearningRate(abc.ABC):
    """A learning rate over the optimizer's steps, a frozen configuration."""

    @abc.abstractmethod
    def create(self, peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
        """The rate after a linear warm-up of `warmup_steps` from 0 to `peak`."""

    def scale(self, peak: float, losses: Sequence[float]) -> float:
        """What the rate is multiplied by in the next epoch, given the validation losses of those before."""
        return 1.0


@fields.configuration
class Constant(AbstractLearningRate):
    """Stay at the peak."""

    def create(self, peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
        """See the base class."""
        # Joined by hand: optax's warmup_constant_schedule stays at 0 where there is no warm-up.
        warmup = optax.linear_schedule(0.0, peak, warmup_steps)
        return optax.join_schedules([warmup, optax.constant_schedule(peak)], [warmup_steps])


@fields.configuration
class Cosine(AbstractLearningRate):
    """Fall along half a cosine wave, from the peak to `lr_min` at step `total_steps`."""

    lr_min: float = fields.field(0.0, ge=0.0)

    def create(self, peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
        """See the base class; optax counts the warm-up among the decay steps: the minimum falls on `total_steps`."""
        return optax.warmup_cosine_decay_schedule(
            0.0, peak, warmup_steps, max(total_steps, warmup_steps + 1), self.lr_min
        )


@fields.configuration
class Plateau(AbstractLearningRate):
    """Stay at the peak, and fall by `factor` where `patience` epochs in a row have not lowered the validation loss.

    An epoch lowers it that ends below 1 - 1e-4 of the least so far. Below `lr_min` the rate does not fall.
    """

    factor: float = fields.field(0.5, gt=0.0, lt=1.0)
    patience: int = fields.field(5, ge=1)
    lr_min: float = fields.field(0.0, ge=0.0)

    def create(self, peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
        """See the base class."""
        return Constant().create(peak, warmup_steps, total_steps)

    def scale(self, peak: float, losses: Sequence[float]) -> float:
        """See the base class."""
        least, waited, scale = math.inf, 0, 1.0
        for loss in losses:
            waited = 0 if loss < least * (1 - _LOWER) else waited + 1
            least = min(least, loss)
            if waited == self.patience:
                waited, scale = 0, scale * self.factor
        return max(scale, self.lr_min / peak)


@fields.configuration
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101), warm-up, and clipping by the global gradient norm."""

    learning_rate: float = fields.field(3e-4, gt=0.0)
    lr_schedule: AbstractLearningRate = fields.field(Constant())
    warmup_steps: int = fields.field(1000, ge=0)
    weight_decay: float = fields.field(1e-2, ge=0.0)
    clip_norm: float = fields.field(10.0, gt=0.0)

    def __post_init__(self) -> None:
        least = getattr(self.lr_schedule, "lr_min", 0.0)
        if least > self.learning_rate:
            rule = f"must be at most optimizer.learning_rate={self.learning_rate}"
            raise UserError(f"lr_schedule.lr_min={least}: {rule}, or the rate would rise; for instance 0.0")

    def create(self, total_steps: int) -> optax.GradientTransformation:
        """The transformation for a training of `total_steps` steps."""
        rate = self.lr_schedule.create(self.learning_rate, self.warmup_steps, total_steps)
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(rate, weight_decay=self.weight_decay),
        )

    def scale(self, losses: Sequence[float]) -> float:
        """What the rate is multiplied by in the next epoch, given the validation losses of those before."""
        return self.lr_schedule.scale(self.learning_rate, losses)

"""Optimizers: a learning rate over time, and AdamW."""

import abc

import optax

from dd import fields


class AbstractLearningRate(abc.ABC):
    """A learning rate over the optimizer's steps, a frozen configuration."""

    @abc.abstractmethod
    def create(self, peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
        """The rate after a linear warm-up of `warmup_steps` from 0 to `peak`."""


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
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101), warm-up, and clipping by the global gradient norm."""

    learning_rate: float = fields.field(3e-4, gt=0.0)
    lr_schedule: AbstractLearningRate = fields.field(Constant())
    warmup_steps: int = fields.field(1000, ge=0)
    weight_decay: float = fields.field(1e-2, ge=0.0)
    clip_norm: float = fields.field(10.0, gt=0.0)

    def create(self, total_steps: int) -> optax.GradientTransformation:
        """The transformation for a training of `total_steps` steps."""
        rate = self.lr_schedule.create(self.learning_rate, self.warmup_steps, total_steps)
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(rate, weight_decay=self.weight_decay),
        )

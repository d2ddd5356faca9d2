"""How the learning rate runs over a training."""

from __future__ import annotations

import math

from bench.train.recipe import Schedule


def rate_fraction(schedule: Schedule, step: int, n_steps: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step as a fraction of its peak, in [0, 1].

    Linear and cosine parts are taken at the middle of the step.

    Args:
        schedule: Its form.
        step: From 0.
        n_steps: Steps of the whole training.
        steps_per_epoch: What the milestones are counted in.
    """
    if schedule.name == "piecewise":
        epoch = step // steps_per_epoch
        return float(schedule.factor ** sum(epoch >= m for m in schedule.milestones))
    at = (step + 0.5) / n_steps
    if at < schedule.warmup:
        return at / schedule.warmup
    left = (1 - at) / (1 - schedule.warmup)
    return left if schedule.name == "one-cycle" else (1 - math.cos(math.pi * left)) / 2

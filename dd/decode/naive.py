"""The chunk as the policy samples it, whatever is being executed meanwhile."""

from typing import ClassVar

from dd import fields
from dd.decode.base import AbstractDecode, num_flow_steps


@fields.configuration
class Naive(AbstractDecode):
    """Sample the next chunk without regard to the previous one (the baseline of arXiv 2506.07339)."""

    num_flow_steps: int = num_flow_steps()

    reads_rest: ClassVar[bool] = False

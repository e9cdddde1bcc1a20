"""A configuration whose annotations are texts, as users of this import have them."""

from __future__ import annotations

from dd import fields


@fields.configuration
class Postponed:
    """One field that is checked, one whose kind a compiled program must know."""

    count: int = fields.field(3, ge=1)
    rate: float = fields.field(0.5, leaf=True)

"""What a user can put right."""


class UserError(Exception):
    """A value that can't be used. The message is one line: value, rule, way out; the command ends with 2."""


class ImpossiblePairError(UserError):
    """An inference delay and an execute horizon that exclude each other; a grid over both skips them."""

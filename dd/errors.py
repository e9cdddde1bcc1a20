"""What a user can put right."""


class UserError(Exception):
    """A value that can't be used. The message is one line: value, rule, way out; the command ends with 2."""

"""What goes wrong, as one line with its remedy."""


class CliError(Exception):
    """Ends the command with exit code 1; the text is all that is printed."""


class NotFound(CliError):
    """The API server has no such object."""

"""The one error of the staging program."""


class StagingError(Exception):
    """Why something was not staged, in one line that a person can act on.

    It names what was asked for and never holds a token or the text of another library's exception.
    """

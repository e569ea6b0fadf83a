"""The one exception that means: the input, not the program, is wrong; and what other exceptions say."""

from reprlib import Repr


class UserError(ValueError):
    """A mistake in a file, an option or a structure; its text says what, what was got, what is allowed, what to do.

    Commands print the text alone and exit with code 2; in a script it is an ordinary exception.
    """


def reason(error: Exception, at_most: int | None = None) -> str:
    """What another library says, on one line and perhaps cut; the kind of error where it says nothing."""
    return " ".join(str(error).split())[:at_most] or type(error).__name__


def shortened(value: object, at_most: int = 120) -> str:
    """Python's text for a value, cut; values of any size and depth are shortened before they become text."""
    brief = Repr()
    brief.maxstring = brief.maxother = at_most
    return brief.repr(value)[:at_most]


def require(condition: bool, key: str, got: object, allowed: str) -> None:
    """Raise a UserError that names the key, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise UserError(f"{key} is {shortened(got)}, but must be {allowed}")

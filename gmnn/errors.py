"""The one exception that means that the input, not the program, is wrong; and helpers for the texts of errors."""

from reprlib import Repr


class UserError(ValueError):
    """A mistake in a file, an option or a structure.

    Its text names the mistake, the value, what is allowed and the remedy. Commands print the text alone and exit
    with code 2; in a script it is an ordinary exception.
    """


def reason(error: Exception, at_most: int | None = None) -> str:
    """Message of another library's error on one line, cut to `at_most` characters; its type if the message is empty."""
    try:
        text = str(error)
    except Exception:  # some errors have a text that cannot be made
        text = ""
    return " ".join(text.split())[:at_most] or type(error).__name__


def shortened(value: object, at_most: int = 120) -> str:
    """`repr` of a value, cut. A value of any size and depth is shortened before it becomes text."""
    brief = Repr()
    brief.maxstring = brief.maxother = at_most
    return brief.repr(value)[:at_most]


def require(condition: bool, key: str, got: object, allowed: str) -> None:
    """Raise a UserError that names the key, its value and what is allowed unless the condition holds."""
    if not condition:
        raise UserError(f"{key} is {shortened(got)}, but must be {allowed}")

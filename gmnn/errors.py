"""The one exception that means: the input, not the program, is wrong."""


class UserError(ValueError):
    """A mistake in a file, an option or a structure; its text says what, what was got, what is allowed, what to do.

    Commands print the text alone and exit with code 2; in a script it is an ordinary exception.
    """

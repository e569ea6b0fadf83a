"""How every command ends: exit code 0, or one clear sentence and 2 for a user's mistake, 130 when interrupted."""

import sys
from collections.abc import Callable


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command's body; a UserError becomes one sentence on stderr and 2, Ctrl-C becomes 130."""
    from gmnn.errors import UserError

    try:
        return run()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{name}: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2

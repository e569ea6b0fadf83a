"""What is installed in the environment of another program."""

import subprocess
from pathlib import Path


def installed(environment: Path) -> dict[str, str]:
    """Versions of the packages, by the name that pip gives them."""
    listed = subprocess.run(
        [environment / "bin" / "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return dict(line.split("==") for line in listed.stdout.splitlines() if "==" in line)

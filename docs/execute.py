"""Run every block of a page in the order of the page, in a new folder: python docs/execute.py PAGE [FOLDER]

bash and python blocks are run, a yaml block with a title is written to the file of that name; text blocks are shown.
What a block prints is printed; the first that fails ends it.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.S | re.M)


def main() -> None:
    """Every block."""
    page = Path(sys.argv[1])
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    for language, title, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(code, encoding="utf-8")
        elif language in ("bash", "python"):
            print(f"== {page.name}: {code.strip().splitlines()[-1]}", flush=True)
            command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=folder)
            if done.returncode:
                sys.exit(f"{page}: exit code {done.returncode} of\n{code}")
        elif language != "text":
            sys.exit(f"{page}: a block of {language} is neither run nor has a title")


if __name__ == "__main__":
    main()

"""Generated parts of Markdown pages: what stands between <!-- NAME --> and <!-- /NAME -->."""

import re
from pathlib import Path


def between(text: str, name: str, new: str) -> str:
    """The text with the part between its marks replaced."""
    marked = re.compile(rf"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.S)
    if not marked.search(text):
        raise SystemExit(f"the marks of {name} are missing")
    return marked.sub(lambda m: m[1] + new + "\n" + m[2], text)


def rewrite(page: Path, parts: dict[str, str]) -> None:
    """All these parts of a page."""
    text = page.read_text()
    for name, new in parts.items():
        text = between(text, name, new)
    page.write_text(text)

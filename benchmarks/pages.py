"""The generated blocks of README and docs, from the stored results.

    python benchmarks/pages.py [PAGE ...]      write all blocks and figures, or those of the named pages
    python benchmarks/pages.py --check         write nothing; exit 1 and name each block that is stale or missing

A block stands between <!-- NAME --> and <!-- /NAME -->. BLOCKS says which function writes it; to move a block, move its
line there and its marks in the documents.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import scaling  # noqa: E402
from benchmarks.blocks import accuracy, engines, evaluation, how_much_data, md, peers, readme, reliability, seed, speed  # noqa: E402

BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"headline": how_much_data.headline, "numbers": readme.numbers},
    "docs/accuracy.md": {
        "results": accuracy.quick, "rmd17": accuracy.rmd17, "peer": accuracy.peer, "ladder": accuracy.ladder,
        "long": accuracy.long_ladder, "crystals": accuracy.crystals, "silicon": accuracy.silicon,
        "mixed": accuracy.mixed, "ensemble": accuracy.ensemble,
    },
    "docs/engines.md": {"lammps": engines.programs, "ranks": engines.by_rank, "lammps drift": engines.drifts},
    "docs/evaluation.md": {"grades": evaluation.grades},
    "docs/how_much_data.md": {
        "study": how_much_data.study, "cost": how_much_data.cost, "certificate": how_much_data.certificate,
    },
    "benchmarks/results/how_much_data.md": {
        "variants": how_much_data.variants, "suites": how_much_data.suites, "basis": how_much_data.basis,
        "accuracy": how_much_data.accuracy, "dynamics": how_much_data.dynamics, "certified": how_much_data.certified,
    },
    "docs/md.md": {"held": md.held, "drift": md.drift},
    "docs/peers.md": {"peers": peers.peers, "scans": peers.scans},
    "docs/reliability.md": {"cases": reliability.cases},
    "docs/scaling.md": {"weak": scaling.weak, "strong": scaling.strong},
    "docs/seed.md": {"seed": seed.settings},
    "docs/speed.md": {"speed": speed.beside_apax, "notes": speed.notes, "lammps": speed.beside_lammps},
}  # fmt: skip
FIGURES: dict[str, list[Callable[[], None]]] = {
    "docs/accuracy.md": [accuracy.draw],
    "docs/how_much_data.md": [how_much_data.draw],
    "docs/md.md": [md.draw],
    "docs/peers.md": [peers.draw, peers.draw_one_bond],
    "docs/scaling.md": [scaling.draw],
    "docs/seed.md": [seed.draw],
}
ANY = re.compile(r"<!-- ([\w ]+) -->\n.*?<!-- /\1 -->", re.S)


def rewrite(text: str, marker: str, block: str) -> str:
    """The text of a page with this block replaced. KeyError if its marks are missing."""
    marks = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.S)
    if not marks.search(text):
        raise KeyError(marker)
    return marks.sub(lambda match: f"{match[1]}{block.strip()}\n{match[2]}", text)


def write(*pages: str) -> list[str]:
    """Write the blocks and figures of these pages, or of all; print and return what could not be written."""
    complaints = []
    for page in pages or BLOCKS:
        text, problems = _fresh(page)
        (ROOT / page).write_text(text, encoding="utf-8")
        complaints += problems
        print(*problems, sep="\n", end="\n" if problems else "")
        for draw in FIGURES.get(page, []):
            draw()
    return complaints


def stale() -> list[str]:
    """One line for each block that differs from the stored results, lacks its marks or has no function."""
    complaints = []
    for page in BLOCKS:
        before, (after, problems) = (ROOT / page).read_text(encoding="utf-8"), _fresh(page)
        complaints += problems
        for old, new in zip(ANY.finditer(before), ANY.finditer(after), strict=True):
            if old[0] != new[0]:
                complaints.append(f"{page}: the block `{old[1]}` is stale; run python benchmarks/pages.py {page}")
    return complaints


def _fresh(page: str) -> tuple[str, list[str]]:
    """The page as the stored results have it, and what is wrong with its marks."""
    text, problems = (ROOT / page).read_text(encoding="utf-8"), []
    for marker, make in BLOCKS[page].items():
        try:
            text = rewrite(text, marker, make())
        except KeyError:
            problems.append(f"{page}: the marks <!-- {marker} --> and <!-- /{marker} --> are missing")
    unknown = [match[1] for match in ANY.finditer(text) if match[1] not in BLOCKS[page]]
    return text, problems + [f"{page}: nothing writes the block `{marker}`" for marker in unknown]


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"of {', '.join(BLOCKS)}; all by default")
    parser.add_argument("--check", action="store_true", help="only say what is stale")
    arguments = parser.parse_args()
    if unknown := set(arguments.pages) - set(BLOCKS):
        parser.error(f"no blocks on {', '.join(sorted(unknown))}")
    if not arguments.check:
        sys.exit(bool(write(*arguments.pages)))
    complaints = stale()
    print(*complaints, sep="\n", end="\n" if complaints else "")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()

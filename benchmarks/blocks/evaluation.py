"""docs/evaluation.md: which number says best that a force is wrong."""

from benchmarks.blocks import table
from benchmarks.stored import read

CANDIDATES = {"distance": "grade", "rigidity": "rigidity", "spread of forces": "spread"}


def grades() -> str:
    """Areas under the ROC of the candidates on hot frames, of the network alone and of the shallow ensemble."""
    lines = []
    for name, row in read("grade")["sets"].items():
        kinds = [row[kind] for kind in ("single", "shallow") if kind in row]
        areas = [
            "/".join(f"{kind['auc'][candidate]:.2f}" for kind in kinds if candidate in kind["auc"])
            for candidate in CANDIDATES
        ]
        lines.append([name, "/".join(f"{kind['share_bad']:.2f}" for kind in kinds), *areas])
    return table(["set", "wrong", *CANDIDATES.values()], lines)

"""docs/evaluation.md: which number says best that a force is wrong."""

from benchmarks.blocks import table
from benchmarks.stored import read

CANDIDATES = ("distance", "rigidity", "spread of forces")


def grades() -> str:
    """Areas under the ROC of the candidates on hot frames, all of the shallow ensemble, one row per set."""
    lines = []
    for name, kinds in read("grade")["sets"].items():
        of = kinds["shallow"]
        areas = [f"{of['auc'][candidate]:.2f}" for candidate in CANDIDATES]
        lines.append([name, f"{of['share_bad']:.0%}", *areas, f"{of['bad_above_1']:.0%}", f"{of['good_above_1']:.1%}"])
    head = ["set", "wrong forces", "grade", *CANDIDATES[1:], "wrong ones above 1", "others above 1"]
    return table(head, lines)

"""Where a learning stands, and what it depends on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from gmnn.config.learn import LearnConfig
from gmnn.errors import UserError
from gmnn.files import digest, read_sealed, require_file, sealed, write_json
from gmnn.learning.rounds import HINT
from gmnn.model import folder
from gmnn.structures import split_index

FIRST_PS = 1.0  # of the first round; doubled whenever half of the replicas held
BUDGETS = {"max_labels", "max_hours", "teacher_processes", "teacher_seconds"}  # may change at --resume


@dataclass
class Progress:
    """Where a learning stands; made again from the rounds on the disk when it is resumed."""

    learnt: list[Atoms]  # labelled frames, in the order in which they were learnt
    given: int = 0  # of them, those of the start
    records: list[dict[str, Any]] = field(default_factory=list)
    ps: float = FIRST_PS
    streak: int = 0
    model: Path | None = None  # the last potential
    from_scratch: int = 0  # number of frames of the last training from random parameters
    trained_on: int = -1  # number of frames of the last training
    reason: str = ""  # why it ends before it holds

    @property
    def labels(self) -> int:
        """Number of labels of the teacher that are learnt."""
        return len(self.learnt) - self.given


def begin(config: LearnConfig, output: Path, resume: bool) -> None:
    """Record what a run depends on, or check that a resumed run has the same."""
    files = {file: digest(split_index(file)[0]) for file in config.structures}
    if config.start is not None:
        start = Path(config.start)
        if not start.is_dir():
            require_file(split_index(start)[0], "a file of labelled frames, or of a model folder")
        files["start"] = (
            folder.potential_digest(folder.load(start)) if start.is_dir() else digest(split_index(start)[0])
        )
    now = {"config": config.model_dump(mode="json", exclude={"output", *BUDGETS}), "files": files}
    record = output / "run.json"
    if not record.exists():
        write_json(record, sealed(now))
        return
    if not resume:
        raise UserError(f"{output} already holds a run; add --resume to continue it, or choose another output")
    before = read_sealed(record, HINT)
    changed = [key for key in now["config"] if now["config"][key] != before["config"].get(key)]
    changed += [f"the content of {key}" for key in files if files[key] != before["files"].get(key)]
    if changed:
        raise UserError(f"the run in {output} was started otherwise ({', '.join(changed)} differ); resume it with the "
                        "same configuration and files, or choose another output")  # fmt: skip

"""The YAML configuration of `gmnn learn`: structures, a teacher, the conditions to hold, and the budget."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from gmnn.config.model import ModelConfig
from gmnn.config.reading import checked_model
from gmnn.config.train import TrainConfig
from gmnn.config.types import STRICT, Count, Number, PathText, Positive, Seed


def _listed(value: Any) -> Any:
    """Return one value as a list of one."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class TeacherConfig(BaseModel):
    """The ASE calculator whose labels are learnt."""

    model_config = STRICT

    teacher: Annotated[str, Field(min_length=1)]
    """Preset of `gmnn scan`, as `gfn2-xtb`; `module:callable` of an ASE calculator; or a model folder."""
    teacher_kwargs: dict[str, Any] = {}
    """Its keyword arguments."""
    teacher_python: PathText | None = None
    """Interpreter of another environment that has ASE and the teacher; by default the present one."""
    teacher_processes: Count | None = None
    """Processes that label at once, each on one core; by default one for each core."""
    teacher_seconds: Positive = 600.0
    """Time limit of one label, s; a call that takes longer costs that frame alone."""


class LearnConfig(TeacherConfig):
    """Learning of a potential from structures and a teacher."""

    output: PathText
    """Folder for labels, rounds, the potential and the report; must not hold anything else."""
    seed: Seed = 0
    """Seed of frames, velocities and trainings."""
    structures: Annotated[tuple[PathText, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Files of structures, each with `@N` for one of several; cells narrower than 9 Å are repeated."""
    start: PathText | None = None
    """Labelled frames to begin with, or a model folder to train on from; by default neither."""
    temperatures_K: Annotated[tuple[Positive, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Temperatures at which dynamics must hold, K."""
    strains: Annotated[tuple[Number, ...], BeforeValidator(_listed), Field(min_length=1)] = (0.0,)
    """Changes of the lengths of a periodic cell at which dynamics must hold, as shares: `[-0.04, 0, 0.04]`."""
    hold_ps: Positive = 20.0
    """How long every replica must hold, ps."""
    max_labels: Count = 300
    """Most labels to ask for."""
    max_hours: Positive = 2.0
    """Most time to take, hours."""
    replicas: Count = 4
    """Replicas at every temperature and strain."""
    timestep_fs: Positive = 0.5
    """Time step, fs."""
    grade: Positive = 1.5
    """Grade above which a replica has left the data; 1 is the largest of the validation frames."""
    model: Annotated[ModelConfig, BeforeValidator(checked_model)] = ModelConfig()
    """The potential."""
    train: TrainConfig = TrainConfig()
    """The training of the last potential; those of the rounds are shorter."""

    @field_validator("strains")
    @classmethod
    def _small(cls, strains: tuple[float, ...]) -> tuple[float, ...]:
        if any(abs(strain) > 0.3 for strain in strains):
            raise ValueError(f"strains are {list(strains)}, but each must lie between -0.3 and 0.3; 0.04 is 4 %")
        return strains

    @model_validator(mode="after")
    def _single(self) -> "LearnConfig":
        if self.model.ensemble == "shallow":
            raise ValueError("model.ensemble is shallow, but only none and full can be learnt here")
        return self

"""The `data` section: which frames, what their labels are called, how they are split."""

from pydantic import BaseModel, model_validator

from gmnn.config.types import STRICT, Count


class DataConfig(BaseModel):
    """Which frames to train on. A source is a file that ASE reads, or `ethanol` for the embedded set."""

    model_config = STRICT

    train: str
    """Source of the training frames; without `valid` and `test` it is split into all three."""
    valid: str | None = None
    """Source of the validation frames; without it `n_valid` frames are split off `train`."""
    test: str | None = None
    """Source of the test frames; without it and without `valid`, the test set is what the split leaves over."""
    n_train: Count | None = None
    """Number of training frames, drawn with the seed; by default all, or 80 % where the split also makes a test set."""
    n_valid: Count | None = None
    """Number of validation frames split off `train`; by default 10 %."""
    energy_key: str | None = None
    """Key of the energy in a frame's `info`; by default the energy of the frame's calculator."""
    forces_key: str | None = None
    """Key of the forces in a frame's `arrays`; by default the forces of the frame's calculator."""
    atomic_energies: dict[str, float] | None = None
    """Energy of each isolated atom by symbol, eV; by default regression of the training energies on composition."""
    nlh_coefficients: str | None = None
    """Published file of the NLH coefficients, for `model.repulsion: nlh`."""

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.valid is not None and self.n_valid is not None:
            raise ValueError("data.n_valid splits frames off data.train; leave it out when data.valid is given")
        return self

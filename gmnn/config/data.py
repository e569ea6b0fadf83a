"""The `data` section: the frames, the names and meaning of their labels, and the split."""

import unicodedata
from itertools import product
from typing import Any, Literal, get_args

from pydantic import BaseModel, field_validator, model_validator

from gmnn.checking import is_finite
from gmnn.config.types import STRICT, Count, NonNegative, Number, PathText
from gmnn.errors import shortened

EnergyUnit = Literal["eV", "meV", "kcal/mol", "kJ/mol", "Hartree", "Ry"]
LengthUnit = Literal["Å", "angstrom", "Bohr", "nm"]
Sign = Literal[1, -1]
PRESSURES = ("GPa", "MPa", "kbar", "bar")
ENERGY_OVER_LENGTH = tuple("/".join(pair) for pair in product(get_args(EnergyUnit), get_args(LengthUnit)))
ENERGY_OVER_VOLUME = tuple(f"{unit}^3" for unit in ENERGY_OVER_LENGTH)


class UnitsConfig(BaseModel):
    """Units of the numbers in the files. Reading converts them to eV and Å."""

    model_config = STRICT

    energy: EnergyUnit = "eV"
    """Unit of energies and virials."""
    length: LengthUnit = "Å"
    """Unit of positions and cells."""
    forces: str | None = None
    """Unit of forces, energy over length as in `eV/Å`; by default from `energy` and `length`."""
    stress: str | None = None
    """Unit of stresses: GPa, MPa, kbar, bar or as in `eV/Å^3`; by default from `energy` and `length`."""

    @model_validator(mode="before")
    @classmethod
    def _one_ring(cls, values: Any) -> Any:
        """Normalise Å, which Unicode can write in three ways, to one character."""
        if not isinstance(values, dict):
            return values
        return {key: unicodedata.normalize("NFC", v) if isinstance(v, str) else v for key, v in values.items()}

    @field_validator("forces")
    @classmethod
    def _known_forces(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in ENERGY_OVER_LENGTH:
            raise ValueError(
                f"data.units.forces is {shortened(unit)}, but it should be {_quotient('')}, as in kcal/mol/Å"
            )
        return unit

    @field_validator("stress")
    @classmethod
    def _known_stress(cls, unit: str | None) -> str | None:
        if unit is None or unit in PRESSURES or unit in ENERGY_OVER_VOLUME:
            return unit
        allowed = f"{', '.join(PRESSURES)} or {_quotient('^3')}, as in eV/Å^3"
        raise ValueError(f"data.units.stress is {shortened(unit)}, but it should be {allowed}")


class SourcesConfig(BaseModel):
    """The frames. A source is a file that ASE reads, or `ethanol` for the embedded data set."""

    model_config = STRICT

    train: PathText
    """Training frames, a file that ASE reads or `ethanol` (embedded); without `valid` and `test` split into all three
    sets."""
    valid: PathText | None = None
    """Validation frames; by default `n_valid` frames of `train`."""
    test: PathText | None = None
    """Test frames; by default, if `valid` is not set either, what the split leaves over."""
    extra: PathText | None = None
    """Further frames, all trained on, of kinds that the other sets do not measure, as from active learning;
    `config_type_weights` weigh them."""
    n_train: Count | None = None
    """Number of training frames; by default all, or 80 % if the split makes a test set."""
    n_valid: Count | None = None
    """Validation frames split off `train`, unless there is `valid`; by default 10 %."""
    split: Literal["random", "ordered"] = "random"
    """`random` draws frames by the seed; `ordered` takes training, validation and test frames in file order."""


class LabelsConfig(BaseModel):
    """Names, units and signs of the labels in a file."""

    model_config = STRICT

    energy_key: str | None = None
    """Key of the energy; by default the calculator's or a usual name, as `REF_energy`, `dft_energy`."""
    forces_key: str | None = None
    """Key of the forces; by default the calculator's or a usual name, as `REF_forces`, `force`."""
    stress_key: str | None = None
    """Key of the stress (3x3, 9 numbers, or 6: xx yy zz yz xz xy); by default as for the energy."""
    virial_key: str | None = None
    """Key of the virial, converted to a stress; by default a usual name, as `virial`, `REF_virials`."""
    units: UnitsConfig = UnitsConfig()
    """Units of the file."""
    stress_sign: Sign = 1
    """`1`: stress positive under tension (ASE); `-1`: under compression (as VASP and CP2K print it)."""
    stress_convention: Literal["vasp"] | None = None
    """`vasp`: stresses as in VASP's line `in kB`: xx yy zz xy yz zx, kbar, positive under compression."""
    virial_sign: Sign = 1
    """`1`: the virial is -volume times ASE's stress, -dE/dstrain (usual); `-1`: the opposite."""

    @model_validator(mode="after")
    def _one_convention(self) -> "LabelsConfig":
        if self.stress_convention is not None and (self.stress_sign != 1 or self.units.stress is not None):
            raise ValueError(
                f"data.stress_convention is {self.stress_convention}, which has its own unit and sign; leave "
                "data.units.stress and data.stress_sign out"
            )
        return self


class DataConfig(LabelsConfig, SourcesConfig):
    """The frames of a run, their weights in the loss, and the energies of isolated atoms."""

    config_type_weights: dict[str, NonNegative] | None = None
    """Loss weight of a frame by the `config_type` in its `info`; `default` (else 1) for all others."""
    atomic_energies: dict[str, Number] | Literal["isolated"] | None = None
    """Energies of isolated atoms by symbol, always eV, or `isolated`: from single-atom training frames; by default
    regression of training energies on composition."""
    nlh_coefficients: PathText | None = None
    """Published file of NLH coefficients, for `model.repulsion: nlh`."""

    @field_validator("atomic_energies", mode="before")
    @classmethod
    def _energies(cls, value: Any) -> Any:
        if value is None or value == "isolated":
            return value
        numbers = value.values() if isinstance(value, dict) else [None]
        if all(map(is_finite, numbers)):
            return value
        allowed = "finite energies in eV by symbol, as in {H: -13.6, O: -2041.8}, or `isolated`"
        raise ValueError(f"data.atomic_energies is {shortened(value)}, but it should be {allowed}")


def _quotient(power: str) -> str:
    energies, lengths = ", ".join(get_args(EnergyUnit)), ", ".join(unit + power for unit in get_args(LengthUnit))
    return f"one of {energies} over one of {lengths}"

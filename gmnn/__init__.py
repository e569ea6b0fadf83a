"""Gaussian-moment neural network potentials that cannot fuse nuclei: train, evaluate, scan, use from ASE."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmnn.config.model import ModelConfig
    from gmnn.errors import UserError
    from gmnn.interfaces.calculator import Calculator
    from gmnn.model.folder import load
    from gmnn.model.potential import Potential
    from gmnn.reference import Reference
    from gmnn.system import Prediction, System
    from gmnn.training import TrainingResult, train

__version__ = "0.2.0"
__all__ = [
    "Calculator", "ModelConfig", "Potential", "Prediction", "Reference", "System", "TrainingResult", "UserError",
    "load", "train",
]  # fmt: skip

_HOMES = {
    "Calculator": "interfaces.calculator",
    "ModelConfig": "config.model",
    "Potential": "model.potential",
    "Prediction": "system",
    "Reference": "reference",
    "System": "system",
    "UserError": "errors",
    "TrainingResult": "training",
    "load": "model.folder",
    "train": "training",
}


def __getattr__(name: str) -> Any:  # JAX and ASE are imported only with a name that needs them
    if name not in _HOMES:
        raise AttributeError(f"module 'gmnn' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"gmnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""The YAML configurations of training and of dynamics, checked by pydantic: one module per section."""

from gmnn.config.data import DataConfig, LabelsConfig
from gmnn.config.md import DynamicsConfig
from gmnn.config.reading import Config, read_any, read_config, read_section, schema, section_of
from gmnn.config.train import TrainConfig

__all__ = [
    "Config", "DataConfig", "DynamicsConfig", "LabelsConfig", "TrainConfig", "read_any", "read_config", "read_section",
    "schema", "section_of",
]  # fmt: skip

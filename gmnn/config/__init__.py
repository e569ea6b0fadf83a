"""The YAML configuration of a training run, checked by pydantic: one module per section."""

from gmnn.config.data import DataConfig, LabelsConfig
from gmnn.config.reading import Config, read_config, read_section, schema, section_of
from gmnn.config.train import TrainConfig

__all__ = ["Config", "DataConfig", "LabelsConfig", "TrainConfig", "read_config", "read_section", "schema", "section_of"]

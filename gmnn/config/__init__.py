"""The choices of a user, checked: one module per section of a configuration, and the reading of YAML files."""

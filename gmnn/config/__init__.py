"""The user's choices, checked: one module per section of a configuration, and the reader of YAML files."""

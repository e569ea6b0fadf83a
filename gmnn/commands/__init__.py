"""The programs behind the scripts at the top: each module has `main(argv) -> exit code`."""

COMMANDS = {
    "train": ("gmnn.commands.train", "train a potential from a YAML configuration"),
    "md": ("gmnn.commands.md", "molecular dynamics on the device"),
    "scan": ("gmnn.commands.scan", "drive every bond of a structure to 0.1 Å and check that the energy rises"),
    "certify": ("gmnn.commands.certify", "what is proved about close approaches with a trained potential"),
    "eval": ("gmnn.commands.evaluate", "errors of a trained potential on labelled frames"),
    "select": ("gmnn.commands.select", "which frames of a file to compute and train on next"),
    "distort": ("gmnn.commands.distort", "training frames beyond the data, labelled with the help of a cheap method"),
    "export": ("gmnn.commands.export", "a trained potential as StableHLO, which runs without gmnn"),
    "lammps": ("gmnn.commands.lammps", "build the plugin with which LAMMPS uses trained potentials"),
    "import-apax": ("gmnn.commands.import_apax", "a model folder from one trained with Apax"),
    "schema": ("gmnn.commands.schema", "JSON schema or table of the training configuration"),
    "completion": ("gmnn.commands.completion", "completions for bash, zsh and tcsh"),
}

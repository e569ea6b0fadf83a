"""The commands of `gmnn` and of the scripts at the top: each module has `main(argv) -> exit code`."""

COMMANDS = {
    "train": ("gmnn.commands.train", "train a potential from a YAML configuration"),
    "learn": ("gmnn.commands.learn", "learn a potential that holds, from structures and any ASE calculator"),
    "md": ("gmnn.commands.md", "run molecular dynamics or a minimisation with a trained potential"),
    "scan": ("gmnn.commands.scan", "drive every bond of a structure to 0.1 Å and check that the energy rises"),
    "certify": ("gmnn.commands.certify", "compute proved bounds on how close two atoms can come"),
    "eval": ("gmnn.commands.evaluate", "compute errors of a trained potential on labelled frames"),
    "show": ("gmnn.commands.show", "print what a model folder is, what it was trained on and its errors"),
    "reference": ("gmnn.commands.reference", "move the zero of a potential's energies to that of other labels"),
    "select": ("gmnn.commands.select", "choose the frames of a file to compute and train on next"),
    "distort": ("gmnn.commands.distort", "make training frames beyond the data with the help of a cheap method"),
    "export": ("gmnn.commands.export", "write a trained potential as a StableHLO program, which runs without gmnn"),
    "lammps": ("gmnn.commands.lammps", "build the plugin with which LAMMPS uses trained potentials"),
    "import-apax": ("gmnn.commands.import_apax", "make a model folder from a model trained with Apax"),
    "schema": ("gmnn.commands.schema", "print the keys of a configuration as a JSON schema or as tables"),
    "completion": ("gmnn.commands.completion", "print completions for bash, zsh or tcsh"),
}

"""The command `gmnn` and its subcommands, each a module of gmnn/commands."""

import sys
from importlib import import_module

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


def usage() -> str:
    """What there is."""
    lines = [f"  gmnn {name:<13}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: gmnn COMMAND ...", "", *lines, "", "gmnn COMMAND --help explains each; gmnn --version"])


def main(argv: list[str] | None = None) -> int:
    """Dispatch to a command and return its exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        from gmnn import __version__

        print(f"gmnn {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"gmnn: {name!r} is not a command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return import_module(COMMANDS[name][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())

"""A potential trained by Apax 0.14: its configuration and parameters are read from the files that Apax writes.

The function of Apax, found from its numbers alone (benchmarks/peers/apax_reference.py keeps some), is ours without
core, bounded readout and scaled features: cosine cutoff, equal Bessel amplitudes, directions v / (r + 1e-5 Å), the same
invariants in another order, E_i = mu_Z + sigma_Z x_i with x_i linear in the last hidden layer. Constants are folded
into kernels, mu_Z goes into E0, repulsions become fixed numbers.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmnn.config.model import NO_CORE, ModelConfig, ZBLConfig
from gmnn.elements import SYMBOLS
from gmnn.errors import UserError
from gmnn.model import descriptor, repulsion, trees
from gmnn.model.network import OUTPUT_GAIN, inverse_softplus
from gmnn.model.potential import Params, Potential
from gmnn.model.readout import SWISH_UNIT
from gmnn.reference import Reference

UNIT_OFFSET = 1e-5  # Å
SWISH = 1.676532470331  # factor of swish between Apax's layers
NTK_BIAS = 0.1
PROGRAM = "Apax 0.14"
SINGLE: dict[str, Any] = {
    "name": "gmnn", "activation_fn": "variance_preserving_swish", "ensemble": None, "property_heads": [],
}  # fmt: skip
KNOWN = {*SINGLE, "basis", "nn", "n_radial", "n_contr", "use_ntk", "empirical_corrections"}
WITHOUT_EFFECT = {
    "w_init", "b_init", "emb_init", "calc_stress", "descriptor_dtype", "readout_dtype", "scale_shift_dtype",
}  # fmt: skip


def read(path: Path) -> tuple[dict[str, Any], Params, int]:
    """Read the configuration, the parameters of the best epoch and its number from the folder of one experiment."""
    import yaml

    file = path / "config.yaml"
    epochs = [int(entry.name) for entry in path.glob("best/*") if entry.is_dir() and entry.name.isdigit()]
    if not file.is_file() or not epochs:
        missing = "best/<epoch>/" if file.is_file() else "config.yaml"
        raise UserError(f"{path} is not a model of Apax (it has no {missing}); give the folder directory/experiment")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}; copy it again") from None
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UserError(f"{file} has no section model; give the folder that Apax trained in")
    tree = trees.read_foreign(path / "best" / str(max(epochs)) / "default")
    try:
        return config, tree["model"]["params"]["params"], max(epochs)
    except (KeyError, TypeError):
        raise UserError(f"{path}/best/{max(epochs)} holds no model/params/params, as those of {PROGRAM} do") from None


def potential(config: Mapping[str, Any], params: Params, elements: Sequence[int] = ()) -> Potential:
    """Return the potential for these atomic numbers, by default for those whose scale or shift training changed."""
    model = config["model"]
    _refuse_others(model)
    basis = model.get("basis", {})
    n_radial, hidden = int(model.get("n_radial", 5)), tuple(model.get("nn", (256, 256)))
    try:
        network = params["energy_model"]
        coefficients = np.asarray(network["representation"]["radial_fn"]["atomic_type_embedding"], float)
        scale, shift = (
            np.asarray(network["scale_shift"][name], float).ravel()
            for name in ("scale_per_element", "shift_per_element")
        )
        layers = [network["readout"][f"dense_{k}"] for k in range(len(hidden) + 1)]
        weights = [(np.asarray(layer["w"], float), np.asarray(layer["b"], float)) for layer in layers]
        corrections = model.get("empirical_corrections", [])
        correction = network["corrections_0"] if corrections else {}
    except KeyError as error:
        raise UserError(f"the parameters lack {error}, which those of {PROGRAM} have for this configuration") from None
    z = np.array(sorted(set(elements)) or trained_elements(scale, shift))
    _require_elements(z, scale)
    readout = _readout(weights, n_radial, hidden, int(model.get("n_contr", 8)), bool(model.get("use_ntk", False)))
    kind, zbl, screening = _repulsion(corrections, correction, z)
    ours = ModelConfig(
        r_max=float(basis.get("r_max", 5.0)), n_basis=int(basis.get("n_basis", 16)), n_radial=n_radial,
        cutoff="cosine", hidden=hidden, output_activation="identity", unit_offset=UNIT_OFFSET,
        repulsion=kind, zbl=zbl, core=NO_CORE,
    )  # fmt: skip
    expected = (119, 119, ours.n_radial, ours.n_basis)
    if coefficients.shape != expected:
        raise UserError(f"atomic_type_embedding has shape {coefficients.shape}, the configuration asks for {expected}")
    trained = {
        "radial": {"coefficients": coefficients[np.ix_(z, z)]},
        "readout": readout,
        "scale_shift": {"scale": inverse_softplus(scale[z]), "shift": np.zeros(len(z))},
    }
    e0, sigma = tuple(shift[z].tolist()), tuple(scale[z].tolist())
    reference = Reference(tuple(z.tolist()), e0, sigma, (0.0,) * len(z), screening=screening)
    return Potential(ours, reference, jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), trained))


def trained_elements(scale: np.ndarray, shift: np.ndarray) -> list[int]:
    """Atomic numbers whose scale or shift differs from that of the many elements absent from the data."""
    moved = np.zeros(len(scale), bool)
    for table in (scale, shift):
        values, counts = np.unique(table, return_counts=True)
        moved |= table != values[np.argmax(counts)]
    numbers = np.flatnonzero(moved).tolist()
    if not numbers:
        raise UserError(
            "all elements have the same scale and shift, so that the trained ones cannot be told; "
            "name them with --elements, for example --elements H,C,O"
        )
    return numbers


def feature_order(n_radial: int) -> np.ndarray:
    """Place of each of Apax's features among ours; only the order of M2_r M2_s M2_t differs.  [F]"""
    ours = list(combinations_with_replacement(range(n_radial), 3))
    theirs: list[tuple[int, int, int]] = []
    for r in range(n_radial):
        twice = [(min(r, s), s, max(r, s)) for s in range(n_radial) if s != r]
        theirs += [(r, r, r), *twice, *((r, s, t) for s, t in combinations(range(r + 1, n_radial), 2))]
    order = np.arange(descriptor.n_features(n_radial))
    first = sum(descriptor.feature_counts(n_radial)[:4])
    order[first : first + len(ours)] = [first + ours.index(triple) for triple in theirs]
    return order


def _refuse_others(model: Mapping[str, Any]) -> None:
    for key, value in SINGLE.items():
        if model.get(key, value) != value:
            raise UserError(f"model.{key} is {model[key]!r}; only {value!r} can be imported")
    unknown = sorted(set(model) - KNOWN - WITHOUT_EFFECT)
    if unknown:
        raise UserError(f"model.{unknown[0]} is not a setting of {PROGRAM}, which alone can be imported")
    basis = model.get("basis", {})
    if basis.get("name", "bessel") != "bessel":
        raise UserError(f"model.basis.name is {basis['name']!r}; only 'bessel' can be imported")
    if model.get("n_contr", 8) not in range(1, 9):
        raise UserError(f"model.n_contr is {model['n_contr']!r}; only 1 to 8 can be imported")
    names = [correction.get("name") for correction in model.get("empirical_corrections", [])]
    if len(names) > 1 or not set(names) <= {"zbl", "exponential"}:
        raise UserError(f"model.empirical_corrections are {names}; only one, zbl or exponential, can be imported")


def _require_elements(z: np.ndarray, scale: np.ndarray) -> None:
    for number in z.tolist():
        if not 0 < number < len(scale):
            raise UserError(
                f"{number} is not an atomic number in 1 ... {len(scale) - 1}; name elements by their symbols"
            )
        if not scale[number] > 0:
            raise UserError(
                f"the scale of {SYMBOLS[number]} is {scale[number]:.3g} eV; only positive ones can be imported"
            )


def _readout(
    weights: list[tuple[np.ndarray, np.ndarray]], n_radial: int, hidden: tuple[int, ...], contractions: int, ntk: bool
) -> Params:
    """Kernels and biases with Apax's constants folded in.

    Rows of the first kernel are in our order, and zero for contractions left out.
    """
    n_features, order = sum(descriptor.feature_counts(n_radial)[:contractions]), feature_order(n_radial)
    widths = (n_features, *hidden, 1)
    layers: Params = {}
    for k, (kernel, bias) in enumerate(weights):
        if kernel.shape != widths[k : k + 2]:
            raise UserError(
                f"the kernel of dense_{k} has shape {kernel.shape}, the configuration asks for {widths[k : k + 2]}"
            )
        if ntk:
            kernel, bias = kernel / np.sqrt(widths[k]), NTK_BIAS * bias
        if k == 0:
            kernel, trained = np.zeros((len(order), kernel.shape[1])), kernel
            kernel[order[:n_features]] = trained
        else:
            kernel = kernel * (SWISH / SWISH_UNIT)
        gain = OUTPUT_GAIN if k == len(hidden) else 1.0
        layers[f"layer_{k}"] = {"kernel": kernel / gain, "bias": bias / gain}
    return layers


def _repulsion(corrections: list[dict], params: Params, z: np.ndarray) -> tuple[Any, ZBLConfig, tuple]:
    """Kind, settings and coefficients of our repulsion. Ours rises below 0.02 Å, where Apax's is constant."""
    if not corrections:
        return "none", ZBLConfig(trainable=False), ()
    r_off = float(corrections[0].get("r_max", 1.5))
    try:
        numbers = {name: np.asarray(values, float) for name, values in params.items()}
        if corrections[0]["name"] == "zbl":
            strength = float(np.logaddexp(0.0, numbers["rep_scale"]).item()) / repulsion.COULOMB
            weights = tuple(np.logaddexp(0.0, numbers["coefficients"]).ravel().tolist())
            zbl = ZBLConfig(strength, trainable=False, window="cosine", r_off=r_off, coefficients=weights)
            return "zbl", zbl, ()
        length, prefactor = np.abs(numbers["rep_scale"]), np.abs(numbers["rep_prefactor"])
    except KeyError as error:
        raise UserError(f"the parameters of the repulsion lack {error}, which those of {PROGRAM} have") from None
    pairs = combinations_with_replacement(z.tolist(), 2)
    rows = tuple((float(2.0 * prefactor[a] * prefactor[b]), float(1.0 / length[a] + 1.0 / length[b])) for a, b in pairs)
    return "exponential", ZBLConfig(trainable=False, window="cosine", r_off=r_off), rows

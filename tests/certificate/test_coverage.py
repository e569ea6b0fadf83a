"""What is not listed as covered gets no theorem; what is listed has the numbers that it had before there was a list."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from ase import Atoms

from gmnn.certificate import barrier, certify, coverage, lipschitz, monotone, radial_bounds, wall
from gmnn.config.model import CoreConfig, ModelConfig, ZBLConfig
from gmnn.errors import UserError
from gmnn.model.potential import Potential

Make = Callable[..., tuple[Potential, dict[str, Any]]]
CORE = CoreConfig()
NLH = (-8.99999, 9.55658, 9.99999, 8.89086, 0.0, 0.0)
TURNING = (2.0, 5.0, -1.0, 1.0, 0.0, 0.0)  # a screening that becomes negative
MOLECULE = Atoms("COHH", [[0.0, 0.0, 0.0], [1.5, 0.1, 0.0], [-0.6, 0.9, 0.2], [-0.5, -0.9, 0.4]])
CHOICES = ("basis", "cutoff", "output_activation", "distance", "repulsion", "zbl.window", "ensemble")

# barrier, monotone and stationary radius (Å) and network force (eV/Å) of C-H, by commit 894216e
KINDS: dict[str, tuple[dict[str, Any], tuple[float | None, ...]]] = {
    "default": ({}, (0.7290125319, 0.5757089275, 1.444681151, 0.9515133178)),
    "gaussian": ({"basis": "gaussian"}, (0.7290144532, 0.5757089275, 1.444681151, 0.7559121283)),
    "cosine cutoff": ({"cutoff": "cosine"}, (0.7290125042, 0.5757089275, 1.449743867, 0.9102983837)),
    "covalent window": ({"zbl": ZBLConfig(window="covalent")}, (0.7765409106, 0.550113627, 1.025376032, 0.9515133178)),
    "cosine window": (
        {"zbl": ZBLConfig(window="cosine", r_off=3.0)},
        (0.6714926806, 0.6152748578, 1.819885587, 0.9515133178),
    ),
    "closest window": ({"zbl": ZBLConfig(window="closest")}, (0.7187460175, 0.6621767396, 0.9135811333, 0.9515133178)),
    "fixed strength": ({"zbl": ZBLConfig(trainable=False)}, (0.7172007143, 0.6621767396, 0.9135811333, 0.9515133178)),
    "nlh": ({"repulsion": "nlh"}, (0.5390074473, 0.6152748578, 0.9232194469, 0.9515133178)),
    "exponential": ({"repulsion": "exponential"}, (None, None, None, 0.9515133178)),
    "no repulsion": ({"repulsion": "none"}, (None, None, None, 0.9515133178)),
    "identity": ({"output_activation": "identity"}, (None, 0.5757089275, 1.449743867, 0.86513826)),
    "no gate": ({"core": replace(CORE, gate=False)}, (0.7290125319, 0.5757089275, 1.449743867, 0.4285767181)),
    "no clamp": ({"core": replace(CORE, clamp=False)}, (0.7290125319, 0.5736984681, 1.375631688, 1.648214883)),
    "smooth": ({"smoothness": 1.5}, (0.7290154355, 0.5757089275, 1.439636113, 1.187652585)),
    "free moments": ({"core": replace(CORE, bounded_moments=False)}, (0.7290127678, None, None, None)),
    "switch": ({"core": replace(CORE, nearest_switch=True)}, (0.7290125319, None, None, None)),
    "agnesi": ({"distance": "agnesi"}, (0.7290124426, None, None, None)),
    "offset": ({"unit_offset": 1e-5}, (0.7290125319, None, None, None)),
    "shallow": ({"ensemble": "shallow", "members": 3}, (0.72647372, None, None, None)),
}


@pytest.fixture
def gentle(make_potential: Make) -> Callable[..., Potential]:
    """gentle(**config): a weak network, so that all three radii are of the size of an atom."""

    def make(**changes: Any) -> Potential:
        later = {key: changes.pop(key) for key in ("repulsion",) if changes.get(key) in ("nlh", "exponential")}
        potential, params = make_potential(scaled=True, **({"core": CORE} | changes))
        params["scale_shift"]["scale"] = np.full_like(params["scale_shift"]["scale"], -8.0)
        screening = {"nlh": (NLH,) * 10, "exponential": ((50.0, 3.0),) * 10}.get(later.get("repulsion", ""), ())
        return Potential(replace(potential.config, **later), replace(potential.reference, screening=screening), params)

    return make


def changed(potential: Potential, name: str, value: Any) -> Potential:
    """The potential with a setting, as `zbl.window`, that the configuration itself would not allow."""
    section, _, key = name.rpartition(".")
    config = replace(potential.config)
    if section:
        inner = replace(getattr(config, section))
        object.__setattr__(config, section, inner)
        object.__setattr__(inner, key, value)
    else:
        object.__setattr__(config, key, value)
    altered = replace(potential)
    object.__setattr__(altered, "config", config)
    return altered


@pytest.mark.parametrize("kind", KINDS)
def test_covered_kinds_have_the_numbers_of_before(gentle: Callable[..., Potential], kind: str) -> None:
    changes, expected = KINDS[kind]
    found = certify(gentle(**changes), MOLECULE, samples=0)
    numbers = (found.barrier["C-H"], found.monotone["C-H"], found.stationary["C-H"], found.network["C-H"])
    assert [number is None for number in numbers] == [number is None for number in expected]
    assert [x for x in numbers if x is not None] == pytest.approx([x for x in expected if x is not None], rel=1e-6)


def test_every_choice_of_the_configuration_is_tried() -> None:
    """The names of this file are those of all Literals of the configuration."""
    names = set()
    for prefix, section in (("", ModelConfig), ("zbl.", ZBLConfig), ("core.", CoreConfig)):
        hints = get_type_hints(section)
        names |= {prefix + name for name, hint in hints.items() if get_origin(hint) is Literal}
        for name, hint in hints.items():
            listed = coverage.MODEL.get(prefix + name)
            assert is_dataclass(hint) or prefix + name in coverage.MODEL, f"{prefix + name}: is it covered?"
            if get_origin(hint) is Literal:
                assert set(listed or ()) <= set(get_args(hint))
    assert names == set(CHOICES)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_nobody_listed_gets_no_theorem(gentle: Callable[..., Potential], name: str) -> None:
    potential = changed(gentle(), name, "brand_new")
    certificate = certify(potential, MOLECULE, samples=4)
    for radii in (certificate.barrier, certificate.monotone, certificate.stationary, certificate.network):
        assert set(radii.values()) == {None}
    assert certificate.assumptions == [f"No theorem: none covers model.{name}: brand_new."]
    refused_by_all(potential, f"model.{name}: brand_new")


def refused_by_all(potential: Potential, setting: str) -> None:
    """No part of the certificate computes anything for this potential."""
    for part in (
        lambda: barrier.above_floor(potential, MOLECULE),
        lambda: lipschitz.sensitivities(potential),
        lambda: radial_bounds.neighbor_bounds(potential, lambda *_: []),
        lambda: monotone.make_grid(potential, np.ones(4), np.full((4, 4), 0.8)),
    ):
        with pytest.raises(UserError, match=f"is not derived for {setting}"):
            part()
    assert np.isnan(barrier.barrier_radii(potential, MOLECULE, 3.0).radii).all()
    assert not wall.falls(potential, 0, 1)
    slopes = wall.slopes(potential, 0, 1, np.array([0.1, 0.2, 0.3]))
    assert not slopes.at_least.any()
    assert np.isinf(slopes.at_most).all()
    assert setting in lipschitz.obstacle(potential)


def test_a_setting_that_nobody_listed_gets_no_theorem(gentle: Callable[..., Potential]) -> None:
    @dataclass(frozen=True)
    class Extended(ModelConfig):
        charges: bool = False

    potential = gentle()
    values = {field.name: getattr(potential.config, field.name) for field in fields(potential.config)}
    object.__setattr__(potential, "config", Extended(**values))
    assert certify(potential, MOLECULE).assumptions == ["No theorem: none covers model.charges: false."]
    refused_by_all(potential, "model.charges: false")


def test_a_branch_that_is_listed_but_not_written_is_refused(
    gentle: Callable[..., Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lists a choice and forgets its formula gets an error, not the formula of another choice."""
    potential, ends = gentle(), np.array([0.1, 0.2, 0.3])
    formulas: dict[str, Callable[[Potential], Any]] = {
        "basis": lambda other: radial_bounds._basis_suprema(other.config),
        "cutoff": lambda other: radial_bounds._basis_suprema(other.config),
        "repulsion": lambda other: wall.falls(other, 0, 1),
        "zbl.window": lambda other: wall.slopes(other, 0, 1, ends),
    }
    for name, formula in formulas.items():
        extended = {**coverage.MODEL, name: (*(coverage.MODEL[name] or ()), "brand_new")}
        monkeypatch.setattr(coverage, "WALL", extended)
        with pytest.raises(UserError, match=f"is not derived for model.{name}: brand_new"):
            formula(changed(potential, name, "brand_new"))
    monkeypatch.setattr(coverage, "FORCE", {**coverage.FORCE, "output_activation": ("brand_new",)})
    with pytest.raises(KeyError):
        lipschitz.sensitivities(changed(potential, "output_activation", "brand_new"))


def test_a_full_ensemble_gets_no_theorem(gentle: Callable[..., Potential]) -> None:
    certificate = certify(changed(gentle(), "ensemble", "full"), MOLECULE, samples=0)
    assert certificate.assumptions == ["No theorem: none covers model.ensemble: full."]


def test_a_pair_whose_repulsion_turns_spoils_the_theorems_about_the_whole_structure(
    gentle: Callable[..., Potential],
) -> None:
    """T1 and T3 need V >= 0 and V' <= 0 of every pair; T2 looks at the pairs one by one."""
    potential = gentle(repulsion="nlh")
    every = list(potential.reference.screening)
    every[wall.element_pairs(4)[0, 0]] = TURNING  # H-H
    spoilt = replace(potential, reference=replace(potential.reference, screening=tuple(every)))
    spoilt = spoilt.with_params(potential.trained)
    assert not wall.falls(spoilt, 0, 0)
    assert wall.falls(spoilt, 0, 1)
    before, after = certify(potential, MOLECULE, samples=0), certify(spoilt, MOLECULE, samples=0)
    assert before.barrier["C-H"] is not None
    assert before.stationary["C-H"] is not None
    assert set(after.barrier.values()) == set(after.stationary.values()) == {None}
    assert "H-H, nor a barrier" in after.assumptions[0]
    without = MOLECULE[:3]  # one hydrogen: no such pair
    assert certify(spoilt, without, samples=0).barrier["C-H"] is not None
    assert certify(spoilt, without, samples=0).stationary["C-H"] is not None
    periodic = without.copy()
    periodic.set_cell([6.0, 6.0, 6.0])
    periodic.pbc = True  # a hydrogen and its image are a pair
    assert set(certify(spoilt, periodic, samples=0).barrier.values()) == {None}

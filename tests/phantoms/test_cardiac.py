from __future__ import annotations

import functools
import time

import numpy as np
import pytest

from workflow_scripts.phantoms.cardiac import GROUPS, CardiacCase, render_cardiac
from workflow_scripts.phantoms.cardiac_scan import VENDORS
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

SIZE = 96
Drawn = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]


def drawn(patient: int, case: CardiacCase, knobs: Knobs | None = None, size: int = SIZE) -> Drawn:
    streams = functools.partial(named_rng, 0, "test", str(patient))
    return render_cardiac(streams, case, knobs or Knobs(), size)


def millilitres(mask: np.ndarray, spacing: tuple[float, ...], label: int) -> float:
    return float((mask == label).sum() * np.prod(spacing) / 1000)


@pytest.mark.parametrize("group", sorted(GROUPS))
@pytest.mark.parametrize("patient", [0, 1])
def test_the_heart_contracts_and_its_wall_keeps_its_volume(group: str, patient: int) -> None:
    _, ed, spacing = drawn(patient, CardiacCase("ED", group))
    _, es, same = drawn(patient, CardiacCase("ES", group))
    assert spacing == same
    assert ed.shape == es.shape
    for label in (1, 3):
        assert millilitres(es, spacing, label) < millilitres(ed, spacing, label)
    ratio = millilitres(es, spacing, 2) / millilitres(ed, spacing, 2)
    assert 0.85 < ratio < 1.3


def test_groups_differ_as_their_names_say() -> None:
    volumes = {}
    for group in GROUPS:
        for frame in ("ED", "ES"):
            _, mask, spacing = drawn(3, CardiacCase(frame, group))
            volumes[group, frame] = [millilitres(mask, spacing, label) for label in (1, 2, 3)]
    assert volumes["DCM", "ED"][0] > 1.3 * volumes["NOR", "ED"][0]
    assert volumes["HCM", "ED"][1] > 1.3 * volumes["NOR", "ED"][1]
    assert volumes["RV", "ED"][2] > 1.2 * volumes["NOR", "ED"][2]

    def ejected(group: str) -> float:
        return 1 - volumes[group, "ES"][0] / volumes[group, "ED"][0]

    assert ejected("DCM") < 0.35 < ejected("NOR") < ejected("HCM")


def test_without_disease_signal_every_group_looks_normal() -> None:
    knobs = Knobs(disease_signal=0)
    _, normal, _ = drawn(2, CardiacCase("ED", "NOR"), knobs)
    for group in GROUPS:
        np.testing.assert_array_equal(drawn(2, CardiacCase("ED", group), knobs)[1], normal)


def test_the_same_patient_is_drawn_equally_twice_and_differently_from_another() -> None:
    case = CardiacCase("ED")
    one, again, other = drawn(1, case), drawn(1, case), drawn(2, case)
    np.testing.assert_array_equal(one[0], again[0])
    assert one[0].shape != other[0].shape or not np.array_equal(one[1], other[1])


def contrast(vendor: str, shift: float) -> float:
    """Signal of blood over signal of the wall, in the middle slice."""
    image, mask, _ = drawn(4, CardiacCase("ED", "NOR", vendor), Knobs(domain_shift=shift))
    middle = len(mask) // 2
    plane, labels = image[middle], mask[middle]
    return float(plane[labels == 1].mean() / plane[labels == 2].mean())


@pytest.mark.parametrize("vendor", sorted(set(VENDORS) - {"Siemens"}))
def test_a_vendor_looks_different_only_with_domain_shift(vendor: str) -> None:
    assert contrast(vendor, 0.0) == contrast("Siemens", 0.0)
    assert abs(contrast(vendor, 1.0) / contrast("Siemens", 1.0) - 1) > 0.15


def test_ambiguity_moves_the_readers_contour_and_nothing_else_does() -> None:
    case = CardiacCase("ED")
    plain = drawn(5, case)[1]
    np.testing.assert_array_equal(drawn(5, case, Knobs(artefact_level=2))[1], plain)
    changed = [
        float((drawn(5, case, Knobs(contour_ambiguity=level))[1] != plain).mean())
        for level in (0.5, 2.0)
    ]
    assert 0 < changed[0] < changed[1]


def test_artefacts_change_the_picture_more_at_a_higher_level() -> None:
    clean = drawn(6, CardiacCase("ED"), Knobs(artefact_level=0))[0].astype(float)
    change = [
        np.abs(drawn(6, CardiacCase("ED"), Knobs(artefact_level=level))[0] - clean).mean()
        for level in (0.5, 2.0)
    ]
    assert change[0] < change[1]


@pytest.mark.parametrize(
    "case", [CardiacCase("XX"), CardiacCase("ED", "XX"), CardiacCase("ED", "NOR", "XX")]
)
def test_an_unknown_case_is_refused(case: CardiacCase) -> None:
    with pytest.raises(ValueError, match="no such"):
        drawn(0, case)


def test_two_hundred_slices_are_drawn_in_seconds() -> None:
    start, n_slices = time.process_time(), 0
    while n_slices < 50:
        n_slices += len(drawn(n_slices, CardiacCase("ED"), size=160)[0])
    assert (time.process_time() - start) * 200 / n_slices < 20

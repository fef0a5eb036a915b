from __future__ import annotations

import functools

import numpy as np
import pytest

from workflow_scripts.datasets.contours import contour_problem, fill_contour
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.phantoms.mammogram import MammogramCase, render_mammogram
from workflow_scripts.randomness import named_rng

SIZE = 192
VIEWS = ("left CC", "right CC", "left MLO", "right MLO")


def drawn(
    patient: int, view: str, is_malignant: bool = False, knobs: Knobs | None = None
) -> tuple[np.ndarray, ...]:
    streams = functools.partial(named_rng, 0, "test", str(patient))
    case = MammogramCase(f"{patient}_{view}", view, is_malignant)
    return render_mammogram(streams, case, knobs or Knobs(), SIZE)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("patient", range(6))
def test_the_outline_lies_in_the_image_and_encloses_the_mass(view: str, patient: int) -> None:
    pixels, outline = drawn(patient, view)
    assert contour_problem(outline, *pixels.shape) is None
    hidden, _ = drawn(patient, view, knobs=Knobs(disease_signal=0))
    added = pixels.astype(float) - hidden
    mask = fill_contour(outline, *pixels.shape).astype(bool)
    assert added[mask].mean() > 10 * max(abs(added[~mask].mean()), 0.1)


def test_a_right_breast_is_at_the_right_edge() -> None:
    for side, is_brighter_left in (("left", True), ("right", False)):
        pixels, _ = drawn(1, f"{side} CC")
        half = pixels.shape[1] // 2
        assert (pixels[:, :half].mean() > pixels[:, half:].mean()) == is_brighter_left


def test_a_malignant_mass_has_a_rougher_outline() -> None:
    def roughness(is_malignant: bool) -> float:
        found = []
        for patient in range(12):
            _, outline = drawn(patient, "left CC", is_malignant)
            radius = np.linalg.norm(outline - outline.mean(axis=0), axis=1)
            found.append(radius.std() / radius.mean())
        return float(np.mean(found))

    assert roughness(True) > 1.3 * roughness(False)


def test_ambiguity_moves_the_outline_and_the_control_does_not() -> None:
    plain = drawn(3, "left CC")[1]
    np.testing.assert_array_equal(drawn(3, "left CC", knobs=Knobs(artefact_level=2))[1], plain)
    moved = drawn(3, "left CC", knobs=Knobs(contour_ambiguity=2))[1]
    assert np.abs(moved - plain).max() > 1


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="no such view"):
        drawn(0, "front CC")

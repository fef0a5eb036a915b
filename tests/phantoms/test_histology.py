"""Histology phantoms differ between classes by what a pathologist would look at."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from workflow_scripts.phantoms.histology import CLASSES, render_histology
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

PLAIN = Knobs(artefact_level=0.0, confounder_strength=0.0)


def field(label: str, patient: int = 0, knobs: Knobs = PLAIN, size: int = 96) -> np.ndarray:
    streams = partial(named_rng, 0, "test", str(patient))
    return render_histology(streams, "a", label, knobs, size)


def nuclear_share(label: str, knobs: Knobs = PLAIN) -> float:
    """Share of dark blue pixels."""
    shares = []
    for patient in range(6):
        red, _, blue = field(label, patient, knobs).astype(float).transpose(2, 0, 1)
        shares.append(np.mean((red < 120) & (blue > red)))
    return float(np.mean(shares))


def test_same_streams_give_the_same_picture() -> None:
    np.testing.assert_array_equal(field("Benign"), field("Benign"))


def test_tissue_is_pink() -> None:
    red, green, blue = np.median(field("Normal").reshape(-1, 3), axis=0)
    assert red > blue > green


def test_nuclei_grow_denser_from_normal_to_carcinoma() -> None:
    normal, benign, in_situ, invasive = (nuclear_share(label) for label in CLASSES)
    assert normal < benign < min(in_situ, invasive)


def test_without_signal_every_class_looks_normal() -> None:
    knobs = Knobs(disease_signal=0.0, artefact_level=0.0)
    pictures = [field(label, 1, knobs) for label in CLASSES]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def has_ink(picture: np.ndarray) -> bool:
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    return bool(np.any((green > red + 25) & (green > blue)))


def test_ink_goes_with_disease_as_strongly_as_its_knob_says() -> None:
    always = Knobs(confounder_strength=1.0, artefact_level=0.0)
    assert all(has_ink(field("Invasive", patient, always)) for patient in range(12))
    assert not any(has_ink(field("Normal", patient, always)) for patient in range(12))
    share = np.mean([has_ink(field("Normal", patient)) for patient in range(30)])
    assert 0.2 < share < 0.8


def test_domain_shift_changes_the_stain() -> None:
    shifted = field("Benign", knobs=Knobs(domain_shift=1.0, artefact_level=0.0)).astype(float)
    assert np.abs(shifted.mean((0, 1)) - field("Benign").astype(float).mean((0, 1))).max() > 5


def test_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no such class: 'Malign'; choose one of Normal, Benign"):
        field("Malign")

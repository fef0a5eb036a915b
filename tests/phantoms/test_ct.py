"""A CT phantom is a chest in Hounsfield units, with opacities where and as strong as asked."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from workflow_scripts.phantoms.ct import OUTSIDE_HU, render_ct
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

PLAIN = Knobs(artefact_level=0.0)


def scan(patient: int, severity: int = 0, knobs: Knobs = PLAIN, size: int = 80) -> np.ndarray:
    return render_ct(partial(named_rng, 0, "test", str(patient)), severity, knobs, size)


def opacity(patient: int, severity: int, signal: float = 1.0) -> float:
    """Mean HU that the disease adds."""
    knobs = Knobs(disease_signal=signal, artefact_level=0.0, confounder_strength=0.0)
    return float((scan(patient, severity, knobs) - scan(patient).astype(float)).mean())


def test_volume_has_air_tissue_bone_and_values_beyond_the_window() -> None:
    volume = scan(0)
    assert volume.dtype == np.int16
    assert volume.shape == (7, 80, 80)
    assert volume.min() == OUTSIDE_HU
    assert volume.max() > 250
    middle = volume[3]
    lung = middle[38:42, 20:26]
    assert -950 < np.median(lung) < -700
    assert abs(np.median(volume[2][32:35, 42:46]) - 90) < 120  # the heart


def test_disease_adds_density_and_more_so_when_severe_or_stronger() -> None:
    for patient in range(3):
        assert opacity(patient, 1, 0.0) == opacity(patient, 2, 0.0) == 0.0
    mild, severe = (np.mean([opacity(p, s) for p in range(6)]) for s in (1, 2))
    weak = np.mean([opacity(p, 2, 0.4) for p in range(6)])
    assert 0 < mild < severe
    assert 0 < weak < severe


def test_opacities_lie_in_the_lungs_more_at_the_back() -> None:
    change = np.mean(
        [scan(p, 2).astype(float) - scan(p).astype(float) for p in range(8)], axis=(0, 1)
    )
    assert change[:12].max() < 1
    assert change[42:60].sum() > change[20:38].sum()


def test_same_streams_give_the_same_volume_and_patients_differ() -> None:
    np.testing.assert_array_equal(scan(1, 1), scan(1, 1))
    assert (scan(1) != scan(2)).mean() > 0.2


def test_lead_goes_with_disease_as_strongly_as_its_knob() -> None:
    def rate(severity: int) -> float:
        knobs = Knobs(artefact_level=0.0, confounder_strength=1.0, disease_signal=0.0)
        return float(np.mean([scan(p, severity, knobs).max() > 1800 for p in range(4)]))

    assert (rate(1), rate(0)) == (1.0, 0.0)


def test_unknown_severity_is_refused() -> None:
    with pytest.raises(ValueError, match="severity 0, 1 or 2, not 3"):
        scan(0, 3)

"""The claim phantom does what it says: a shortcut pays at home and costs abroad."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.phantoms.chest import ChestCase, render_chest
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

FINDING, N, SIZE = "Effusion", 60, 64
CLAIMS = Path(__file__).parents[2] / "profiles/claims"


def shortcut_auc(strength: float) -> float:
    """Return how well edges where the mark may stand tell the finding, without looking at it."""
    knobs = Knobs(confounder_strength=strength, confounder_finding=FINDING, artefact_level=0.0)
    truth, edges = [], []
    for number in range(N):
        findings = ([FINDING], ["Cardiomegaly"], [])[number % 3]
        streams = functools.partial(named_rng, 0, "claim", str(number))
        film = render_chest(streams, ChestCase(f"{number}.png", findings), knobs, SIZE)
        corner = film[5:9, 2:22].astype(float)  # where the word stands: its strokes are edges
        truth.append(FINDING in findings)
        edges.append(float(np.abs(np.diff(corner, axis=1)).mean()))
    return binary_roc_auc(np.array(truth), np.array(edges)).value


def test_a_shortcut_classifier_loses_abroad_at_strength_and_not_at_zero() -> None:
    at_home, abroad, control = shortcut_auc(0.8), shortcut_auc(-0.8), shortcut_auc(0.0)
    assert at_home > 0.8
    assert abroad < 0.2
    assert abs(control - 0.5) < 0.15
    assert at_home - abroad > 0.6


def test_the_mark_goes_with_its_finding_only_and_stronger_with_the_knob() -> None:
    assert 0.5 < shortcut_auc(0.4) < shortcut_auc(1.0)
    assert shortcut_auc(1.0) == 1.0  # cardiomegaly alone never brings the mark


def test_a_finding_that_no_phantom_shows_cannot_bring_the_mark() -> None:
    streams = functools.partial(named_rng, 0, "claim")
    with pytest.raises(ValueError, match="Scoliosis"):
        render_chest(streams, ChestCase("a.png"), Knobs(confounder_finding="Scoliosis"), SIZE)


def test_the_overlays_reverse_the_mark_abroad_and_switch_it_off_in_the_control() -> None:
    def strengths(name: str) -> dict[str, Any]:
        content = yaml.safe_load((CLAIMS / name).read_text())["phantoms"]["datasets"]
        return {folder: one["confounder_strength"] for folder, one in content.items()}

    claim, control = strengths("crocodile.yaml"), strengths("crocodile_control.yaml")
    assert {claim[name] for name in ("chestx", "chexpert", "padchest")} == {0.8}
    assert claim["mimic_cxr"] == -0.8
    assert set(control) == set(claim)
    assert set(control.values()) == {0.0}

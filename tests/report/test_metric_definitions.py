"""The page of metric definitions, and the definitions on it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.metrics.calibration import expected_calibration_error
from workflow_scripts.metrics.calibration_variants import (
    bin_gaps,
    classwise_ece,
    equal_mass_edges,
    equal_width_edges,
    maximum_error,
    root_mean_square_error,
    top_label_ece,
)
from workflow_scripts.metrics.segmentation import hausdorff_95, surface
from workflow_scripts.metrics.segmentation_variants import (
    directed_95,
    larger_percentile_95,
    mean_percentile_95,
    pooled_voxel_percentile_95,
)
from workflow_scripts.report.metric_definitions import (
    SPACING_MM,
    example_masks,
    example_scores,
    main,
    page,
)

COMMITTED = Path(__file__).parents[2] / "docs/reference/metric_definitions.md"


def test_committed_page_is_up_to_date(tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == COMMITTED.read_text()


def test_what_the_page_calls_ours_is_what_our_tables_compute() -> None:
    truth, chance = example_scores()
    errors = [
        expected_calibration_error(truth == number, stated).value
        for number, stated in enumerate(chance.T)
    ]
    own = re.search(r"\*\*class-wise.*?\*\*([0-9.]+)\*\*", page())
    assert own is not None
    assert float(own.group(1)) == pytest.approx(100 * np.mean(errors), abs=0.005)
    two = truth < 2
    first = chance[two, 0] / (chance[two, 0] + chance[two, 1])
    binary = expected_calibration_error(truth[two] == 0, first).value
    assert f"**ours {100 * binary:.2f}**" in page()
    pooled = hausdorff_95(*example_masks(), SPACING_MM)
    assert f"| **{pooled:.3f}** |" in page()


def test_errors_of_hand_computed_bins() -> None:
    chance = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    truth = np.array([0, 1, 1, 1])
    # two bins of equal width: every confidence is above a half; right: yes, no, yes, yes
    gap = abs(np.mean([0.9, 0.8, 0.6, 0.7]) - 0.75)
    assert top_label_ece(truth, chance, equal_width_edges, 2) == pytest.approx(gap)
    assert maximum_error(truth, chance, equal_width_edges, 2) == pytest.approx(gap)
    # of class 0: bins (0, .5] and (.5, 1]: |.35 - 0| and |.85 - .5|, half of the cases each
    first = 0.5 * 0.35 + 0.5 * 0.35
    second = 0.5 * abs(0.15 - 0.5) + 0.5 * abs(0.65 - 1)
    assert classwise_ece(truth, chance, equal_width_edges, 2) == pytest.approx((first + second) / 2)
    # equal mass: the two least and the two most confident
    gaps = np.array([abs(0.65 - 1.0), abs(0.85 - 0.5)])
    assert top_label_ece(truth, chance, equal_mass_edges, 2) == pytest.approx(gaps.mean())
    assert root_mean_square_error(truth, chance, equal_mass_edges, 2) == pytest.approx(
        math.sqrt((gaps**2).mean())
    )


def test_bins_of_equal_mass_hold_equally_many() -> None:
    stated = np.random.default_rng(0).random(600) ** 3
    _, shares = bin_gaps(stated > 2, stated, equal_mass_edges(stated, 15))
    np.testing.assert_allclose(shares, 1 / 15, atol=1e-12)


@pytest.mark.parametrize("spacing", [SPACING_MM, (1.0, 1.0, 1.0)])
def test_distances_equal_a_search_over_all_pairs(spacing: tuple[float, ...]) -> None:
    a, b = (mask[2:6, 20:40, 20:40] for mask in example_masks())

    def nearest(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        points = [np.argwhere(mask) * spacing for mask in (ours, theirs)]
        return np.linalg.norm(points[0][:, None] - points[1][None], axis=-1).min(axis=1)

    there, back = nearest(surface(a), surface(b)), nearest(surface(b), surface(a))
    percentiles = [np.percentile(one, 95) for one in (there, back)]
    assert [directed_95(i, a, b, spacing) for i in (0, 1)] == pytest.approx(percentiles)
    assert larger_percentile_95(a, b, spacing) == pytest.approx(max(percentiles))
    assert mean_percentile_95(a, b, spacing) == pytest.approx(np.mean(percentiles))
    pooled = np.percentile(np.concatenate([there, back]), 95)
    assert hausdorff_95(a, b, spacing) == pytest.approx(pooled)
    voxels = np.concatenate([nearest(a, b), nearest(b, a)])
    assert pooled_voxel_percentile_95(a, b, spacing) == pytest.approx(np.percentile(voxels, 95))


def test_definitions_really_differ_on_the_example() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ") and "HD95" in line]
    values = {line.split("|")[2].strip(" *") for line in rows}
    assert len(values) >= 5

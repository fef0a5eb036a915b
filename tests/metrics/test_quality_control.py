from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from workflow_scripts.metrics.quality_control import (
    area_under,
    flagged_until,
    fractions,
    ideal_corner,
    quality_control_curve,
    reference_lines,
)
from workflow_scripts.metrics.rank_correlation import bootstrap_spearman, spearman

Golden = dict[str, Any]


@pytest.fixture(scope="module")
def golden(root: Path) -> Golden:
    content: Golden = json.loads((root / "tests/golden/layer_ensembles.json").read_text())
    return content


def test_binary_curves_areas_and_ideal_corner_are_golden(golden: Golden) -> None:
    case = golden["qc_curve"]
    orders = {"de": case["uncertainty_de"], "le": [-one for one in case["aula_le_positive"]]}
    for method, suspicion in orders.items():
        is_bad = np.array(case[f"dsc_{method}"]) < case["dsc_threshold"]
        curve = quality_control_curve(is_bad, suspicion)
        assert_allclose(curve, case[f"curve_{method}"], rtol=1e-9)
        assert area_under(curve) == pytest.approx(case[f"auc_{method}"], rel=1e-9)
    dsc = np.array(case["dsc_de"])
    ideal = quality_control_curve(dsc < case["dsc_threshold"], -dsc)
    assert ideal_corner(ideal) == (
        pytest.approx(case["ideal_area"]["fill_x"][1]), case["ideal_area"]["fill_y"][1],
    )  # fmt: skip


def test_curves_of_single_structures_are_golden(golden: Golden) -> None:
    case = golden["qc_curve_multiclass"]
    thresholds = dict(zip(("", "-LV", "-MYO", "-RV"), case["dsc_thresholds_all_LV_MYO_RV"],
                          strict=True))  # fmt: skip
    for name, given_ in case["inputs"].items():
        limit = thresholds[name[2:]]
        curve = quality_control_curve(
            np.array(given_["dsc"]) < limit, given_["uncertainty_higher_is_worse"]
        )
        assert_allclose(curve, case["curves"][name]["y"], rtol=1e-9)
        assert area_under(curve) == pytest.approx(case["curves"][name]["auc"], rel=1e-9)


def test_reference_lines_of_hearts_are_golden(golden: Golden) -> None:
    case = golden["qc_curve_multiclass"]
    limit = case["dsc_thresholds_all_LV_MYO_RV"][0]
    both = [np.array(case["inputs"][method]["dsc"]) for method in ("DE", "LE")]  # listing order
    lines = reference_lines([quality_control_curve(dsc < limit, -dsc) for dsc in both])
    assert [lines.start, 0] == pytest.approx(case["random_line"]["y"])
    assert [lines.start, lines.lowest] == pytest.approx(case["ideal_area"]["fill_y"])
    assert [0, lines.corner] == pytest.approx(case["ideal_area"]["fill_x"])


def test_flagged_share_is_where_the_curve_first_reaches_the_level() -> None:
    curve = quality_control_curve([True, True, False, False], [4.0, 3.0, 2.0, 1.0])
    at = fractions()
    assert flagged_until(curve, 0.25) == at[np.flatnonzero(4 * at >= 1)[0]]
    assert flagged_until(curve, 0.0) == at[np.flatnonzero(4 * at >= 2)[0]]
    assert flagged_until(curve, 0.5) == 0.0
    assert math.isnan(flagged_until(np.full(50, math.nan), 0.5))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40))
def test_curve_falls_from_the_share_of_bad_cases_to_zero(cases: list[tuple[bool, float]]) -> None:
    is_bad, suspicion = (np.array(side) for side in zip(*cases, strict=True))
    curve = quality_control_curve(is_bad, suspicion)
    assert curve[0] == is_bad.mean()
    assert curve[-1] == 0
    assert (np.diff(curve) <= 0).all()
    best = quality_control_curve(is_bad, is_bad.astype(float))
    worst = quality_control_curve(is_bad, -is_bad.astype(float))
    assert (best <= curve).all()
    assert (curve <= worst).all()
    assert 0 <= area_under(curve) <= curve[0]


def test_curve_of_undefined_suspicion_is_undefined() -> None:
    assert np.isnan(quality_control_curve([True, False], [0.5, math.nan])).all()
    assert len(fractions()) == 50


def test_spearman_is_golden_and_leaves_out_infinite_pairs(golden: Golden) -> None:
    case = golden["spearman"]
    mhd = [float(one) for one in case["mhd"]]
    negated = [-one for one in case["aula_positive"]]
    found = [
        spearman(case["dsc"], case["entropy"]), spearman(case["dsc"], negated),
        spearman(mhd, case["entropy"]), spearman(mhd, negated),
    ]  # fmt: skip
    expected = [case[key] for key in (
        "rho_dsc_entropy", "rho_dsc_aula_stored_negated", "rho_mhd_entropy_inf_row_dropped",
        "rho_mhd_aula_stored_negated_inf_row_dropped")]  # fmt: skip
    assert_allclose(found, expected, rtol=1e-9)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=30))
def test_spearman_knows_ranks_only(pairs: list[tuple[float, float]]) -> None:
    x, y = (np.round(side, 3) for side in zip(*pairs, strict=True))
    found = spearman(x, y)
    if math.isnan(found):
        assert len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1
        return
    assert spearman(x, y**3) == pytest.approx(found, abs=1e-12)
    assert spearman(-x, y) == pytest.approx(-found, abs=1e-12)
    assert -1 <= found <= 1


def test_spearman_interval_covers_a_strong_relation_and_zero_without_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    patients = np.repeat(np.arange(30), 2)
    strong = bootstrap_spearman(x, x + 0.3 * rng.normal(size=60), patients, rng, 300)
    none = bootstrap_spearman(x, rng.normal(size=60), patients, rng, 300)
    assert strong.low > 0.7
    assert none.low < 0 < none.high
    assert strong.patients == 30

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from workflow_scripts.metrics.statistics import (
    EXACT_PAIRS,
    PairedTest,
    holm,
    paired_wilcoxon,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/layer_ensembles.json").read_text())


def smaller_rank_sum(found: PairedTest) -> float:
    """Wilcoxon's statistic, from the effect: the ranks' difference as a share of their sum."""
    return found.n * (found.n + 1) / 2 * (1 - abs(found.effect)) / 2


def test_wilcoxon_is_golden() -> None:
    golden = GOLDEN["wilcoxon"]
    case = golden["distinct_nonzero"]
    found = paired_wilcoxon(case["le"], case["other"])
    assert found.p_value == case["pvalue_exact"]
    assert smaller_rank_sum(found) == pytest.approx(case["statistic"])
    case = golden["ties_and_zeros"]
    found = paired_wilcoxon(case["le"], case["other"])
    assert found.p_value == pytest.approx(case["pvalue_asymptotic"])
    assert (found.n, found.n_pairs) == (8, 10)
    assert smaller_rank_sum(found) == pytest.approx(case["statistic"])


@pytest.mark.parametrize(
    ("n", "method"), [(8, "exact"), (EXACT_PAIRS, "exact"), (51, "asymptotic")]
)
def test_p_value_is_scipy_s(n: int, method: str) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.3, 1, n), rng.normal(size=n)
    expected = wilcoxon(first, second, method=method, correction=False).pvalue
    assert paired_wilcoxon(first, second).p_value == pytest.approx(expected, rel=1e-12)


def test_p_value_with_ties_and_zeros_is_scipy_s_with_wilcoxon_s_rule() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 6, 40), rng.integers(0, 5, 40)
    expected = wilcoxon(first, second, zero_method="wilcox", method="asymptotic").pvalue
    found = paired_wilcoxon(first, second)
    assert found.p_value == pytest.approx(expected, rel=1e-12)
    assert found.n == int((first != second).sum())


def test_p_value_counts_all_sign_patterns() -> None:
    difference = np.array([0.5, -1.0, 2.0, 3.5, 4.0, -0.25])
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    extreme = abs(int((np.sign(difference) * ranks).sum()))
    sums = [abs(int(np.dot(signs, ranks))) for signs in product((-1, 1), repeat=6)]
    found = paired_wilcoxon(difference, np.zeros(6))
    assert found.p_value == pytest.approx(np.mean([total >= extreme for total in sums]))
    assert found.effect == pytest.approx((21 - 2 * (1 + 3)) / 21)  # ranks 1 and 3 are negative
    assert found.median_difference == 1.25


def test_effect_has_the_sign_of_the_first_and_is_one_where_all_agree() -> None:
    first, second = np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.6, 0.65])
    assert paired_wilcoxon(first, second).effect == 1
    assert paired_wilcoxon(second, first).effect == -1


def test_undefined_pairs_are_counted_out_and_infinite_ones_rank_highest() -> None:
    first = [math.nan, math.inf, 1.0, 2.0, math.inf]
    found = paired_wilcoxon(first, [0.0, 3.0, 2.0, 4.0, math.inf])
    assert (found.n, found.n_pairs) == (3, 4)
    assert found.effect == pytest.approx((3 - 1 - 2) / 6)
    same = paired_wilcoxon([1.0, 2.0], [1.0, 2.0])
    assert math.isnan(same.p_value)
    assert math.isnan(same.effect)
    assert (same.median_difference, same.n, same.n_pairs) == (0, 0, 2)
    assert math.isnan(paired_wilcoxon([], []).median_difference)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition_step_by_step(p_values: list[float]) -> None:
    # reject in order of p while p_(i) <= level / (m - i); adjusted: the level that just does
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for i, place in enumerate(order):
            if p_values[place] * (len(order) - i) > level:
                break
            rejected.add(int(place))
        assert rejected == set(np.flatnonzero(adjusted <= level).tolist())


def test_holm_is_statsmodels_on_its_own_example() -> None:
    # statsmodels 0.15.0, multipletests(p, method="holm")[1], computed elsewhere and copied here
    p_values = [0.0008, 0.0119, 0.2018, 0.0049, 0.0333, 0.6513]
    expected = [0.0048, 0.0476, 0.4036, 0.0245, 0.0999, 0.6513]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-9)


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, math.nan]), [0.03, 0.06, 0.06, math.nan])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert len(holm([])) == 0

"""Correlations and lines: the released notebook's numbers, scipy, and what is undefined."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from workflow_scripts.metrics.correlation import fit_line, min_max_scaled, pearson

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
NOTEBOOK = GOLDEN["analysis_imagenet_vs_fewshot"]
SCALED = GOLDEN["analysis_scaled_average"]


@pytest.mark.parametrize("entry", NOTEBOOK["entries"], ids=lambda entry: str(entry["dataset"]))
def test_line_and_correlation_equal_the_notebook(entry: dict[str, object]) -> None:
    x, y, error = NOTEBOOK["x_imagenet_top1"], entry["y"], entry["yerr"]
    line, correlation = fit_line(x, y, error), pearson(x, y)
    for found, name in (
        (line.slope, "slope"),
        (line.slope_error, "slope_err"),
        (line.intercept, "intercept"),
        (line.intercept_error, "intercept_err"),
        (correlation.r, "pearson_r"),
        (correlation.p_value, "p_value"),
    ):
        assert found == pytest.approx(entry[name], abs=1e-4)
    assert line.reduced_chi2 == pytest.approx(entry["reduced_chi2"], rel=1e-4)


@pytest.mark.parametrize("domain", ["in_domain", "out_of_domain"])
def test_scaled_averages_equal_the_notebook(domain: str) -> None:
    columns = [SCALED["values"][name] for name in SCALED[f"{domain}_columns"]]
    found = np.mean([min_max_scaled(column) for column in columns], axis=0)
    np.testing.assert_allclose(found, SCALED[domain], atol=2e-6)


def test_correlation_equals_scipy_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=13)
    y = x + rng.normal(size=13)
    expected = stats.pearsonr(x, y)
    found = pearson(np.r_[x, 1.0, math.nan], np.r_[y, math.nan, 2.0])
    assert found.n == 13
    assert found.r == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-5)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [3, 4]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_too_few_points_or_no_variation_is_undefined(x: list[float], y: list[float]) -> None:
    assert math.isnan(pearson(x, y).r)
    assert pearson(x, y).n == len(x)
    assert math.isnan(fit_line(x, y).slope)


def test_three_points_have_a_correlation_without_interval() -> None:
    found = pearson([1, 2, 3], [1, 2, 4])
    assert found.r > 0.9
    assert math.isnan(found.low)


def test_a_line_without_errors_has_no_chi2() -> None:
    line = fit_line([0, 1, 2], [1, 3, 5])
    assert line.slope == pytest.approx(2)
    assert math.isnan(line.reduced_chi2)


def test_a_constant_column_has_no_scale() -> None:
    assert np.isnan(min_max_scaled([3.0, 3.0])).all()

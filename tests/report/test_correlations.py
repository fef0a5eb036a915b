"""Correlations, domain averages and scatter figures from tables alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from workflow_scripts.problems import InputError
from workflow_scripts.report import correlations, scatter
from workflow_scripts.report.long_form import Value, read_values, write_values
from workflow_scripts.report.published import SCALES, Published, read_published
from workflow_scripts.report.transfer_points import transfer_points

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
NOTEBOOK = GOLDEN["analysis_imagenet_vs_fewshot"]
SCALED = GOLDEN["analysis_scaled_average"]
ANALYSED = ("pearson_r", "p_value", "slope", "reduced_chi2", "scaled_average")
NO_DOMAINS: dict[str, Any] = {"in_domain": [], "out_of_domain": []}


def value(
    step: str, row: str, column: str, number: float, half: float = math.nan, **more: str
) -> Value:
    metric = more.get("metric", "accuracy")
    return Value(
        system="ssl_transfer", table=f"ssl_transfer_{step}", row=row, column=column, metric=metric,
        value=number, ci_low=number - half, ci_high=number + half, n=600, seeds=1,
        data=more.get("data", column.split(" ")[0]), protocol=more.get("protocol", "released"),
        interval="episodes", seed_std=math.nan,
    )  # fmt: skip


def few_shot(entry: dict[str, Any]) -> list[Value]:
    cells = zip(NOTEBOOK["models"], entry["y"], entry["yerr"], strict=True)
    return [value("few_shot", row, f"{entry['dataset']} 2-way", y, half) for row, y, half in cells]


def tables(folder: Path, *parts: list[Value]) -> list[str]:
    paths = []
    for number, part in enumerate(parts):
        paths.append(str(folder / f"table{number}.csv"))
        write_values(Path(paths[-1]), part)
    return paths


def test_imagenet_correlations_equal_the_notebook(tmp_path: Path) -> None:
    entries = NOTEBOOK["entries"][:3]
    imagenet = dict(zip(NOTEBOOK["models"], NOTEBOOK["x_imagenet_top1"], strict=True))
    analysis = {"imagenet_top1": imagenet, **NO_DOMAINS}
    given = tables(tmp_path, [cell for entry in entries for cell in few_shot(entry)])
    correlations.main(["--tables", *given, "--analysis", json.dumps(analysis),
                       "--out", str(tmp_path)])  # fmt: skip
    found = {(v.row, v.metric): v for v in read_values(tmp_path / "ssl_transfer_correlations.csv")}
    for entry in entries:
        row = f"few_shot {entry['dataset']} 2-way"
        for metric, name in (("pearson_r", "pearson_r"), ("slope", "slope"),
                             ("p_value", "p_value"), ("reduced_chi2", "reduced_chi2")):  # fmt: skip
            assert found[row, metric].value == pytest.approx(entry[name], rel=2e-4)
        one = found[row, "pearson_r"]
        assert one.ci_low < one.value < one.ci_high
        assert (one.n, one.interval) == (8, "fisher")


def test_domain_averages_equal_the_notebook() -> None:
    cells, domains = [], {}
    for domain in ("in_domain", "out_of_domain"):
        domains[domain] = [("few_shot", name) for name in SCALED[f"{domain}_columns"]]
        for _, name in domains[domain]:
            for row, number in zip(SCALED["models"], SCALED["values"][name], strict=True):
                cells.append(value("few_shot", row, name, number))
    found = correlations.domain_averages(cells, domains)
    for domain in domains:
        averages = [one.value for one in found if one.column == domain]
        np.testing.assert_allclose(averages, SCALED[domain], atol=2e-6)


def printed_tables(cells: tuple[Published, ...]) -> list[Value]:
    """Return the printed cells as if they were tables of ours."""
    steps = ("few_shot", "linear", "finetune", "saliency", "perceptual", "invariance")
    return [
        value(
            cell.table.removeprefix("ssl_transfer_"), cell.row, cell.column,
            cell.value / SCALES[cell.unit], cell.spread / SCALES[cell.unit], metric=cell.metric,
        )
        for cell in cells
        if cell.table.removeprefix("ssl_transfer_") in steps
        and not cell.source.endswith("no table holds it")  # read from heat maps
    ]  # fmt: skip


def test_printed_correlations_and_averages_follow_from_the_printed_tables() -> None:
    root = Path(__file__).parents[2]
    analysis = yaml.safe_load((root / "config.yaml").read_text())["ssl_transfer"]["analysis"]
    cells = read_published([root / "results/published/ssl_transfer.csv"])
    values = printed_tables(cells)
    points = transfer_points(values, analysis["imagenet_top1"])
    found = [one for each in points for one in correlations.correlation_values(each)]
    found += correlations.domain_averages(values, {d: analysis[d] for d in correlations.DOMAINS})
    ours = {(one.table, *one.cell, one.metric): one.value for one in found}
    printed = [cell for cell in cells if cell.metric in ANALYSED]
    assert len(printed) == 103
    for cell in printed:
        number = ours[(cell.table, "released", cell.row, cell.column, cell.metric)]
        rounding = 0.5 * 10**-cell.decimals
        assert number == pytest.approx(cell.value, abs=1.05 * rounding), cell


def test_a_checkpoint_without_one_of_the_columns_has_no_average() -> None:
    cells = [value("few_shot", f"c{i}", "bach", i / 10) for i in range(3)]
    cells += [value("linear", f"c{i}", "bach", i / 10) for i in range(2)]
    domains = {"in_domain": [("few_shot", "bach"), ("linear", "bach")]}
    found = correlations.domain_averages(cells, domains)
    assert math.isnan(found[2].value)
    assert [one.value for one in found[:2]] == [0.0, 0.75]


def test_a_column_that_no_table_has_is_refused() -> None:
    cells = [value("few_shot", "c", "bach 2-way", 0.5)]
    with pytest.raises(InputError, match="did you mean 'few_shot bach 2-way'"):
        correlations.domain_averages(cells, {"in_domain": [("few_shot", "bach 3-way")]})


def measures() -> list[list[Value]]:
    rows = [f"c{i}" for i in range(5)]
    transfer = [value("linear", row, "bach", 0.2 + 0.1 * i, 0.02) for i, row in enumerate(rows)]
    transfer += [value("linear", row, "shenzhen", 0.5) for row in rows]
    lpips = [
        value("perceptual", row, "bach", 0.9 - 0.1 * i, metric="lpips")
        for i, row in enumerate(rows)
    ]
    flips = [
        value("invariance", row, "bach h_flip", 0.1 * i * i, metric="whitened_cosine")
        for i, row in enumerate(rows[:-1])
    ]
    return [transfer, lpips, flips]


def test_predictors_meet_the_transfer_of_their_own_data_set_and_protocol() -> None:
    transfer, lpips, flips = measures()
    other = [value("perceptual", "c1", "bach", 0.3, metric="lpips", protocol="corrected")]
    points = transfer_points([*transfer, *lpips, *flips, *other], {})
    assert [(one.predictor, one.column, len(one.x)) for one in points] == [
        ("lpips", "linear bach", 5),
        ("invariance_h_flip", "linear bach", 4),
    ]
    assert correlations.correlation_values(points[0])[0].value == pytest.approx(-1)
    assert points[0].errors == pytest.approx((0.02,) * 5)
    assert points[1].y == pytest.approx((0.2, 0.3, 0.4, 0.5))


def test_phantoms_stay_marked(tmp_path: Path) -> None:
    transfer = [value("linear", f"c{i}", "bach", 0.1 * i, data="phantom") for i in range(4)]
    analysis = {"imagenet_top1": {f"c{i}": 0.6 + 0.01 * i for i in range(4)}, **NO_DOMAINS}
    analysis["in_domain"] = [["linear", "bach"]]
    given = tables(tmp_path, transfer)
    correlations.main(["--tables", *given, "--analysis", json.dumps(analysis),
                       "--out", str(tmp_path)])  # fmt: skip
    for name in (correlations.CORRELATIONS, correlations.AVERAGES):
        assert all(v.is_phantom for v in read_values(tmp_path / f"{name}.csv"))
        assert "PHANTOM" in (tmp_path / f"{name}.md").read_text()


def test_an_untrained_checkpoint_or_measure_marks_its_points() -> None:
    transfer, lpips, _ = measures()
    untrained = "bach (untrained weights)"
    seeded = [value("linear", "seeded", "bach", 0.4, data=untrained)]
    names = {f"c{i}": 0.1 * i for i in range(5)}

    def data(cells: list[Value], imagenet: dict[str, float]) -> list[str]:
        return [p.data for p in transfer_points(cells, imagenet) if p.column == "linear bach"]

    assert data([*transfer, *seeded], names) == ["bach"]  # it has no point
    assert data([*transfer, *seeded], names | {"seeded": 0.1}) == [untrained]
    trunks = [replace(one, data=untrained) for one in lpips]
    assert data([*transfer, *trunks], names) == ["bach", untrained]


def test_scatter_writes_equal_bytes_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    given = tables(tmp_path, *measures())
    analysis = json.dumps({"imagenet_top1": {}, **NO_DOMAINS})
    words = ["--tables", *given, "--analysis", analysis]
    pictures = [tmp_path / name for name in ("a.png", "b.png")]
    for path in pictures:
        scatter.main([*words, "--predictor", "lpips", "--out", str(path)])
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert len(pictures[0].read_bytes()) > 5000
    with pytest.raises(InputError, match="--predictor: expected one of lpips, invariance_h_flip"):
        scatter.main([*words, "--predictor", "imagenet_top1", "--out", str(pictures[0])])
    with pytest.raises(InputError, match=r"expected \.png or \.svg"):
        scatter.main([*words, "--predictor", "lpips", "--out", str(tmp_path / "a.pdf")])


def test_averages_need_no_predictor(tmp_path: Path) -> None:
    given = tables(tmp_path, measures()[0])
    analysis = {"imagenet_top1": {}, "in_domain": [["linear", "bach"]], "out_of_domain": []}
    correlations.main(["--tables", *given, "--analysis", json.dumps(analysis),
                       "--out", str(tmp_path)])  # fmt: skip
    found = read_values(tmp_path / f"{correlations.AVERAGES}.csv")
    assert [one.value for one in found] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
    assert not (tmp_path / f"{correlations.CORRELATIONS}.csv").exists()


def test_tables_without_transfer_are_refused(tmp_path: Path) -> None:
    given = tables(tmp_path, measures()[1])
    analysis = json.dumps({"imagenet_top1": {}, **NO_DOMAINS})
    with pytest.raises(InputError, match="a transfer table, found none with a predictor"):
        correlations.main(["--tables", *given, "--analysis", analysis, "--out", str(tmp_path)])
    with pytest.raises(InputError, match="the keys imagenet_top1"):
        correlations.main(["--tables", *given, "--analysis", json.dumps(NO_DOMAINS),
                           "--out", str(tmp_path)])  # fmt: skip

"""Every number that the repository of the paper prints stands in the ledger as printed."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METHODS = {"Plain": "plain", "MH": "multi_head", "DE": "deep_ensembles", "LE": "layer_ensembles"}
SIGNS = ("entropy", "mutual_information", "variance", "aula")
STRUCTURES = ("lv", "myo", "rv")
COLUMNS = {"BCDR": "bcdr", "MnM": "mms"}
Key = tuple[str, str, str, str]
Cell = tuple[float, float | None, bool | None]  # value, spread, printed as significant


def printed(text: str) -> Cell:
    star, value, spread = re.fullmatch(r"(\*?)([\d.]+)\(([\d.]+)\)", text).groups()  # type: ignore[union-attr]
    return float(value), float(spread), bool(star)


def first_table(published: dict[str, Any]) -> Iterator[tuple[Key, Cell]]:
    table = published["table1"]
    for place, column, distance in (("BCDR", "bcdr", "mhd_px"), ("MnM_all", "mms", "mhd_mm")):
        for method, cells in table[place].items():
            for metric, text in zip(("dsc", distance, "nll"), cells, strict=True):
                yield ("segmentation", METHODS[method], column, metric), printed(text)
    for place, base in (("MnM_dsc_LV_MYO_RV", "dsc"), ("MnM_mhd_LV_MYO_RV", "mhd_mm")):
        for method, cells in table[place].items():
            for structure, text in zip(STRUCTURES, cells, strict=True):
                key = ("segmentation", METHODS[method], "mms", f"{base}_{structure}")
                yield key, printed(text)


def second_table(published: dict[str, Any]) -> Iterator[tuple[Key, Cell]]:
    for place, column in COLUMNS.items():
        for name, numbers in published["table2_spearman"][place].items():
            method, quality = name.split("-")
            for sign, number in zip(SIGNS, numbers, strict=True):
                if number is not None:
                    metric = f"spearman_{quality.lower()}_{sign}"
                    yield ("correlation", METHODS[method], column, metric), (number, None, None)
        for name, number in published["qc_auc"][place].items():
            method, _, structure = name.lower().partition("-")
            metric = f"qc_auc_{structure}" if structure else "qc_auc"
            key = ("correlation", METHODS[method.upper()], column, metric)
            yield key, (number, None, None)


def sweep(published: dict[str, Any]) -> Iterator[tuple[Key, Cell]]:
    figure = published["skip_figure"]
    for place, column in COLUMNS.items():
        for skip, text in zip((1, 3, 5, 7, 9), figure["printed_dsc"][f"{place}_skip_1_3_5_7_9"],
                              strict=True):  # fmt: skip
            yield ("skips", f"skip {skip}", column, "dsc"), (*printed(text)[:2], None)
        for skip, nll in enumerate(figure["nll_digitised_approx"][f"{place}_skip_0_to_9"]):
            yield ("skips", f"skip {skip}", column, "nll"), (nll, None, None)
        constants = figure["de_constants"][place]
        yield ("skips", "deep_ensembles", column, "nll"), (constants["nll"], None, None)
        yield ("skips", "deep_ensembles", column, "dsc"), (*printed(constants["dsc"])[:2], None)


# Section 9 of the specification, read off the published figure: DE, LE.
STARTS = {("bcdr", ""): (0.307, 0.301), ("mms", ""): (0.26, 0.246), ("mms", "_lv"): (0.18, 0.21),
          ("mms", "_myo"): (0.27, 0.286), ("mms", "_rv"): (0.22, 0.24)}  # fmt: skip
FLAGGED = {"qc_flagged_5": (0.40, 0.39), "qc_flagged_0": (0.80, 0.57)}


def read_off() -> Iterator[tuple[Key, Cell]]:
    places = {(column, f"qc_start{suffix}"): both for (column, suffix), both in STARTS.items()}
    places |= {("bcdr", metric): both for metric, both in FLAGGED.items()}
    for (column, metric), both in places.items():
        for method, number in zip(("deep_ensembles", "layer_ensembles"), both, strict=True):
            yield ("correlation", method, column, metric), (number, None, None)


def test_ledger_holds_every_printed_number_and_no_other(root: Path, golden: dict[str, Any]) -> None:
    published = golden["published"]
    expected = dict(
        [*first_table(published), *second_table(published), *sweep(published), *read_off()]
    )
    with (root / "results/published/layer_ensembles.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["table"].removeprefix("layer_ensembles_"), row["row"], row["column"], row["metric"]):
        row for row in rows
    }  # fmt: skip
    assert len(found) == len(rows) == 134
    assert found.keys() == expected.keys()
    for key, (value, spread, is_significant) in expected.items():
        row = found[key]
        assert float(row["value"]) == value, key
        assert (float(row["spread"]) if row["spread"] else None) == spread, key
        if is_significant is not None:
            assert ("significantly different" in row["note"]) is is_significant, key
        assert row["tolerance_reason"], key

"""The table of several findings an image: ID, OOD and drop, from predictions alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from workflow_scripts.metrics.calibration import (
    brier_score,
    chance_of,
    expected_calibration_error,
)
from workflow_scripts.metrics.ranking import average_precision
from workflow_scripts.predictions import write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.findings_figures import main as draw
from workflow_scripts.report.kinds import multilabel
from workflow_scripts.report.long_form import Value, write_values
from workflow_scripts.report.metric_catalogue import CHEST_FINDINGS, finding_name
from workflow_scripts.report.predictions import Header, read_headers
from workflow_scripts.report.rendering import blocks, markdown, more_blocks

N = 120
HEADS = ("intervened", "causal")
Frame = dict[str, np.ndarray]


def drawn(seed: int, signal: float, cases: int = 0) -> Frame:
    """Return truths (of the draw `cases`) and logits that know them as far as `signal` says."""
    frame: Frame = {}
    truths, noise = np.random.default_rng(cases), np.random.default_rng(100 + seed)
    for finding in CHEST_FINDINGS:
        truth = (truths.random(N) < 0.4).astype(int)
        frame[f"truth_{finding}"] = truth
        for head in HEADS:
            frame[f"{head}_{finding}"] = noise.normal(size=N) + signal * truth - 0.5
    return frame


def write(
    folder: Path, frame: Frame, column: str, seed: int = 0, row: str = "full", **changed: Any
) -> Path:
    number = np.arange(N)
    cases = pd.DataFrame(
        {
            "image_id": [f"{column}/{i:03d}" for i in number],
            "patient_id": [f"{column}/{i // 2}" for i in number],
            "domain": column, "split": "test", "race": None,
            "sex": np.array(["F", "M", None])[number % 3],
            "age_years": np.where(number % 10 == 0, np.nan, 20.0 + number % 60),
        }
    ).assign(**changed)  # fmt: skip
    metadata = {
        "system": "crocodile", "table": "crocodile_id_ood", "row": row, "column": column,
        "protocol": "corrected", "seed": seed, "kind": "multilabel", "metric": "mean_auc",
        "classes": list(CHEST_FINDINGS), "data": "phantom", "checkpoint": "small",
        "dataset": "d", "options": {}, "diagnostics": {},
    }  # fmt: skip
    path = folder / f"corrected/{row}/seed{seed}/{column}/predictions.parquet"
    path.parent.mkdir(parents=True)
    truth = {name: values for name, values in frame.items() if name.startswith("truth_")}
    scores = {name: values for name, values in frame.items() if name not in truth}
    write_case_scores(path, cases, scores, metadata, truth)
    return path


def cells_of(paths: list[Path]) -> list[tuple[Header, ...]]:
    cells: dict[tuple[str, str], list[Header]] = {}
    for header in read_headers(paths):
        cells.setdefault((header.row, header.column), []).append(header)
    return [tuple(headers) for headers in cells.values()]


def table(paths: list[Path], resamples: int = 0) -> dict[tuple[str, str, str], Value]:
    found = multilabel.table_values(cells_of(paths), Resampling(0, resamples), 1)
    return {(one.row, one.column, one.metric): one for one in found}


def two_roles(folder: Path, seeds: int = 1) -> list[Path]:
    return [
        write(folder, drawn(10 * seed + place, signal, cases=place), role, seed)
        for seed in range(seeds)
        for place, (role, signal) in enumerate((("ID", 2.0), ("OOD", 1.0)))
    ]


def test_every_metric_is_that_of_a_library_or_of_its_definition(tmp_path: Path) -> None:
    frame = drawn(0, 2.0)
    found = table([write(tmp_path, frame, "ID")])
    row, aucs, others = "full, causal", [], []
    for finding in CHEST_FINDINGS:
        truth, logits = frame[f"truth_{finding}"], frame[f"causal_{finding}"]
        own = finding_name(finding)
        auc = roc_auc_score(truth, logits)
        assert found[row, "ID", f"auc_{own}"].value == pytest.approx(auc)
        precision = average_precision(truth, logits).value
        assert found[row, "ID", f"ap_{own}"].value == pytest.approx(precision)
        aucs.append(auc)
        chance = chance_of(logits)
        ece = expected_calibration_error(truth, chance).value
        others.append([precision, ece, brier_score(truth, chance).value])
    without = [auc for one, auc in zip(CHEST_FINDINGS, aucs, strict=True) if one != "No Finding"]
    assert len(without) == 8
    assert found[row, "ID", "mean_auc"].value == pytest.approx(np.mean(without))
    for name, value in zip(("map", "ece", "brier"), np.mean(others, axis=0), strict=True):
        assert found[row, "ID", name].value == pytest.approx(value)
    assert found[row, "ID", "chance"].value == 0.5
    assert found[row, "ID", "mean_auc"].n == N


def test_each_head_is_a_row_and_the_drop_is_id_minus_ood(tmp_path: Path) -> None:
    found = table(two_roles(tmp_path))
    assert {row for row, _, _ in found} == {f"full, {head}" for head in HEADS}
    for head in HEADS:
        row = f"full, {head}"
        for metric in ("mean_auc", "map", "auc_effusion", "mean_auc_male"):
            inside, outside = (found[row, role, metric].value for role in ("ID", "OOD"))
            assert found[row, "drop", f"{metric}_drop"].value == pytest.approx(inside - outside)
        assert (row, "drop", "ece_drop") not in found
    assert found["full, causal", "drop", "mean_auc_drop"].value > 0.05


def test_a_subgroup_holds_those_known_to_belong_to_it(tmp_path: Path) -> None:
    frame = drawn(0, 1.0)
    found = table([write(tmp_path, frame, "ID")])
    number = np.arange(N)
    age = np.where(number % 10 == 0, np.nan, 20.0 + number % 60)
    groups = {
        "female": number % 3 == 0, "male": number % 3 == 1, "below_40": age < 40,
        "40_to_60": (age >= 40) & (age < 60), "from_60": age >= 60,
    }  # fmt: skip
    for name, chosen in groups.items():
        aucs = [
            roc_auc_score(frame[f"truth_{one}"][chosen], frame[f"causal_{one}"][chosen])
            for one in CHEST_FINDINGS
            if one != "No Finding"
        ]
        one = found["full, causal", "ID", f"mean_auc_{name}"]
        assert one.value == pytest.approx(np.mean(aucs)), name
        assert one.n == chosen.sum(), name
    assert found["full, causal", "ID", "auc_edema"].n == N
    nobody = table([write(tmp_path / "b", frame, "ID", sex=None, age_years=np.nan)])
    assert math.isnan(nobody["full, causal", "ID", "mean_auc_male"].value)
    assert nobody["full, causal", "ID", "mean_auc_male"].interval == "none"


def test_a_finding_that_nobody_has_makes_the_means_undefined_and_says_so(tmp_path: Path) -> None:
    frame = drawn(0, 1.0)
    frame["truth_Edema"] = np.zeros(N, dtype=int)
    found = table([write(tmp_path, frame, "ID")], resamples=20)
    for metric in ("mean_auc", "map", "auc_edema", "ap_edema"):
        one = found["full, causal", "ID", metric]
        assert math.isnan(one.value)
        assert math.isnan(one.ci_low)
    assert found["full, causal", "ID", "auc_effusion"].value > 0.6
    assert not math.isnan(found["full, causal", "ID", "brier"].value)


def test_without_positives_of_no_finding_the_mean_auc_stands(tmp_path: Path) -> None:
    frame = drawn(0, 1.0)
    frame["truth_No Finding"] = np.zeros(N, dtype=int)
    found = table([write(tmp_path, frame, "ID")])
    assert found["full, causal", "ID", "mean_auc"].value > 0.6
    assert math.isnan(found["full, causal", "ID", "map"].value)


def test_intervals_draw_patients_and_seeds_are_averaged(tmp_path: Path) -> None:
    found = table(two_roles(tmp_path, seeds=2), resamples=200)
    one = found["full, causal", "ID", "mean_auc"]
    assert one.seeds == 2
    assert one.interval == "patient bootstrap"
    assert one.ci_low < one.value < one.ci_high
    each = [
        np.mean(
            [
                roc_auc_score(frame[f"truth_{f}"], frame[f"causal_{f}"])
                for f in CHEST_FINDINGS
                if f != "No Finding"
            ]
        )
        for frame in (drawn(0, 2.0), drawn(10, 2.0))
    ]
    assert one.value == pytest.approx(np.mean(each))
    assert one.seed_std == pytest.approx(np.std(each, ddof=1))
    drop = found["full, causal", "drop", "mean_auc_drop"]
    widths = [found["full, causal", role, "mean_auc"] for role in ("ID", "OOD")]
    narrow = max(one.ci_high - one.ci_low for one in widths)
    wide = sum(one.ci_high - one.ci_low for one in widths)
    assert narrow < drop.ci_high - drop.ci_low < wide  # independent draws add in squares


def test_twins_of_one_patient_widen_the_interval(tmp_path: Path) -> None:
    frame = {name: np.repeat(values[: N // 2], 2) for name, values in drawn(0, 1.0).items()}
    together = table([write(tmp_path / "a", frame, "ID")], resamples=300)
    alone = [f"ID/{i}" for i in range(N)]
    apart = table([write(tmp_path / "b", frame, "ID", patient_id=alone)], resamples=300)
    wide, narrow = (t["full, causal", "ID", "mean_auc"] for t in (together, apart))
    assert wide.value == narrow.value
    assert wide.ci_high - wide.ci_low > 1.2 * (narrow.ci_high - narrow.ci_low)


def test_variants_of_a_column_are_judged_on_the_same_resamples(tmp_path: Path) -> None:
    paths = [write(tmp_path, drawn(0, 1.0), "ID", row=row) for row in ("full", "baseline")]
    found = table(paths, resamples=50)
    one, other = (found[f"{row}, causal", "ID", "map"] for row in ("full", "baseline"))
    assert (one.ci_low, one.ci_high) == (other.ci_low, other.ci_high)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("causal_Edema", math.nan, "'score_causal_Edema': expected numbers, found 1 gaps"),
        ("truth_Edema", -1, "'truth_Edema': expected 0 or 1, found -1"),
    ],
)
def test_a_score_that_is_no_number_and_an_uncertain_truth_are_refused(
    column: str, value: float, message: str, tmp_path: Path
) -> None:
    frame = drawn(0, 1.0)
    frame[column][7] = value
    with pytest.raises(InputError, match=message):
        table([write(tmp_path, frame, "ID")])


def test_seeds_with_other_cases_are_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path, drawn(seed, 1.0, cases=seed), "ID", seed) for seed in (0, 1)]
    with pytest.raises(InputError, match="truth_Atelectasis"):
        table(paths)


def test_the_page_shows_findings_and_subgroups_as_further_parts(tmp_path: Path) -> None:
    found = multilabel.table_values(cells_of(two_roles(tmp_path)), Resampling(0, 0), 1)
    parts = more_blocks(found)
    assert [block.part for block in parts] == [
        "AUC of each finding", "AP of each finding", "subgroups",
    ]  # fmt: skip
    assert [len(block.columns) for block in parts] == [18, 18, 10]
    page = markdown("crocodile_id_ood", (*blocks(found), *parts))
    one = next(v for v in found if (v.column, v.metric) == ("OOD", "mean_auc_male"))
    section = page.split("## Protocol: corrected, subgroups")[1]
    assert "OOD, mean AUC, men (%)" in section
    assert f"{100 * one.value:.2f}" in section
    assert "*chance level*" not in section
    assert page.count("*chance level*") == 1


def test_the_figures_are_drawn_and_say_phantom(tmp_path: Path) -> None:
    paths = two_roles(tmp_path)
    found = multilabel.table_values(cells_of(paths), Resampling(0, 10), 1)
    csv = tmp_path / "crocodile_id_ood.csv"
    write_values(csv, found)
    maps = tmp_path / "corrected/full/seed0/ID/causality.csv"
    names = ",".join(CHEST_FINDINGS)
    rows = "\n".join(f"{one}{',0.1' * 9}" for one in CHEST_FINDINGS)
    for path in (maps, tmp_path / "prior.csv"):
        path.write_text(f"cause,{names}\n{rows}\n")
    for kind, words in {
        "bars": ["--files", str(csv)],
        "reliability": ["--files", *map(str, paths)],
        "maps": ["--files", str(maps), "--prior", str(tmp_path / "prior.csv"), "--phantom"],
    }.items():
        picture = tmp_path / f"{kind}.svg"
        draw(["--kind", kind, *words, "--out", str(picture)])
        assert "PHANTOM" in picture.read_text(), kind
    with pytest.raises(InputError, match="task prior"):
        draw(["--kind", "maps", "--files", str(maps), "--out", str(tmp_path / "x.svg")])

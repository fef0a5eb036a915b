"""Predictions of every kind, reduced to what the trust matrix asks of a test set."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.metrics.group_gaps import mean_of_draws
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.predictions import Header, read_headers
from workflow_scripts.report.trust_cases import ARTEFACTS, Judged, read_judged
from workflow_scripts.report.trust_measures import (
    calibration,
    drop,
    group_gap,
    performances,
    telling_errors,
)

N = 40
FINDINGS = ("Edema", "No Finding", "Effusion")


def header_of(path: Path, scores: dict[str, Any], extra: dict[str, Any], **words: object) -> Header:
    n = len(next(iter(scores.values())))
    cases = pd.DataFrame({name: [None] * n for name in CASE_COLUMNS}).assign(
        image_id=[f"i{number:03}" for number in reversed(range(n))],
        patient_id=[f"p{number // 2}" for number in range(n)],
        sex=["M", "F", None, "F"] * (n // 4), age_years=[50.0, 70.0, np.nan, 60.0] * (n // 4),
    )  # fmt: skip
    metadata = {**dict.fromkeys(METADATA_NAMES, "x"), "seed": 0, "protocol": "corrected",
                "metric": "accuracy", "data": "here", **words}  # fmt: skip
    write_case_scores(path, cases, scores, metadata, extra)
    (header,) = read_headers([path])
    return header


def multilabel(path: Path) -> tuple[Judged, dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    logits = {
        f"{head}_{name}": rng.normal(size=N) for head in ("own", "other") for name in FINDINGS
    }
    truth = {f"truth_{name}": rng.integers(0, 2, N).astype(float) for name in FINDINGS}
    header = header_of(path, logits, truth, kind="multilabel", metric="mean_auc")
    (judged,) = read_judged(header).values()
    return judged, logits, truth


def whole(one: Judged) -> float:
    """Return the measure on all cases."""
    return float(performances([one])[0](np.ones((1, len(set(one.patients))), dtype=int))[0])


def test_several_findings_are_judged_by_the_first_head_without_no_finding(tmp_path: Path) -> None:
    judged, logits, truth = multilabel(tmp_path / "a.parquet")
    areas = [
        binary_roc_auc(truth[f"truth_{name}"], logits[f"own_{name}"]).value
        for name in ("Edema", "Effusion")
    ]
    assert judged.head == "own"
    assert judged.measure == "mean_auc"
    assert whole(judged) == pytest.approx(np.mean(areas))
    assert judged.chance.shape == (N, 3)
    assert len(judged.wrong) == len(judged.doubt) == 3 * N
    # rows are sorted by image; files were written in the opposite order
    expected = (logits["own_Edema"] > 0) != (truth["truth_Edema"] == 1)
    assert judged.wrong[::3].tolist() == expected[::-1].tolist()


def test_doubt_is_the_entropy_and_belongs_to_its_case(tmp_path: Path) -> None:
    judged, logits, _ = multilabel(tmp_path / "a.parquet")
    chance = 1 / (1 + np.exp(-logits["own_Effusion"][::-1]))
    entropy = -(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
    np.testing.assert_allclose(judged.doubt[2::3], entropy)
    assert judged.case.tolist() == np.repeat(np.arange(N), 3).tolist()


def test_groups_are_known_or_left_out(tmp_path: Path) -> None:
    judged, *_ = multilabel(tmp_path / "a.parquet")
    sex, age = (judged.groups[name][::-1][:4] for name in ("sex", "age"))
    np.testing.assert_array_equal(sex, [1, 0, math.nan, 0])
    np.testing.assert_array_equal(age, [0, 1, math.nan, 0])  # 60 years is not above 60
    gap = group_gap([judged], "sex", lambda _: np.random.default_rng(0), 50)
    assert gap is not None
    assert gap.n == 3 * N // 4


def test_a_disease_classifier_is_judged_by_its_accuracy(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = {"no_finding": rng.normal(size=N), "disease": rng.normal(size=N)}
    truth = rng.integers(0, 2, N)
    header = header_of(tmp_path / "a.parquet", scores, {"truth": truth}, kind="fairness")
    (judged,) = read_judged(header).values()
    right = (scores["disease"] > scores["no_finding"]) == (truth == 1)
    assert judged.measure == "accuracy"
    assert whole(judged) == pytest.approx(right.mean())
    assert judged.chance.shape == (N, 1)  # of two classes one says everything
    stated = 1 / (1 + np.exp(scores["no_finding"] - scores["disease"]))
    np.testing.assert_allclose(judged.chance[::-1, 0], stated)
    errors = telling_errors([judged], lambda _: np.random.default_rng(0), 20)
    assert errors.n == N
    error, null = calibration([judged], lambda name: np.random.default_rng(len(name)), 50)
    assert 0 < null.mean < 1
    assert error.n == N


def test_artefacts_are_one_test_set_and_undefined_dice_is_left_out(tmp_path: Path) -> None:
    names = ["ACDC"] * 8 + ["RandomBias"] * 8 + ["RandomSpike"] * 8
    dice = np.r_[np.full(8, 0.9), np.full(8, 0.5), np.full(7, 0.7), math.nan]
    extra = {"structure": ["LV"] * 24, "test_set": names}
    header = header_of(tmp_path / "a.parquet", {"dice": dice}, extra, kind="segmentation",
                       metric="dice")  # fmt: skip
    sets = read_judged(header)
    assert list(sets) == ["ACDC", ARTEFACTS]
    assert whole(sets[ARTEFACTS]) == pytest.approx((8 * 0.5 + 7 * 0.7) / 15)
    assert sets["ACDC"].chance.shape == (8, 0)
    lost = drop([sets["ACDC"]], [sets[ARTEFACTS]], lambda name: np.random.default_rng(0), 20)
    assert lost.per_seed == pytest.approx([0.9 - (8 * 0.5 + 7 * 0.7) / 15])


def test_a_segmentation_without_dice_is_refused(tmp_path: Path) -> None:
    header = header_of(tmp_path / "a.parquet", {"nll": np.ones(4)}, {}, kind="uncertainty",
                       metric="dsc")  # fmt: skip
    with pytest.raises(InputError, match="score_dice or score_dsc"):
        read_judged(header)


def test_no_error_and_nothing_but_errors_leave_telling_undefined(tmp_path: Path) -> None:
    scores = {"no_finding": np.zeros(4), "disease": np.ones(4)}
    for truth in (np.ones(4, dtype=int), np.zeros(4, dtype=int)):
        path = tmp_path / f"{truth[0]}.parquet"
        header = header_of(path, scores, {"truth": truth}, kind="fairness")
        (judged,) = read_judged(header).values()
        found = telling_errors([judged], lambda _: np.random.default_rng(0), 10)
        assert math.isnan(found.per_seed[0])
        assert math.isnan(found.interval.low)


def judged_of(values: np.ndarray, patients: np.ndarray) -> Judged:
    """Return a test set of single numbers whose mean is the measure."""
    n = len(values)
    none = np.zeros((n, 0))
    return Judged(
        Header(Path("x"), *"xxxxxxxx", 0), "dice",
        lambda rows, place: mean_of_draws(values[rows], place),
        case_ids=np.arange(n).astype(str), patients=patients.astype(str), groups={},
        present=none.astype(bool), chance=none, wrong=np.zeros(0, dtype=bool), doubt=np.zeros(0),
        case=np.zeros(0, dtype=np.int64),
    )  # fmt: skip


@pytest.mark.parametrize("is_paired", [True, False])
def test_intervals_of_a_drop_cover_it_in_93_to_97_of_100_data_sets(is_paired: bool) -> None:
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(60), 2)  # two cases each
    covered, widths = [], []
    for _ in range(1000):
        inside, outside = (np.repeat(rng.normal(size=60), 2) for _ in range(2))
        if is_paired:  # the same scans with an artefact: most of what differs is shared
            outside = inside + 0.3 * outside
        noise = rng.normal(size=(2, 120)) * 0.3
        names = patients if is_paired else patients + 1000
        found = drop([judged_of(inside + noise[0], patients)],
                     [judged_of(outside - 1 + noise[1], names)],
                     lambda _: rng, 400)  # fmt: skip
        covered.append(found.interval.low <= 1 <= found.interval.high)
        widths.append(found.interval.high - found.interval.low)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert (np.mean(widths) < 0.3) == is_paired

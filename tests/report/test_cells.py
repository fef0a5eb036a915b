"""Values of a cell: against hand computation, scikit-learn and the paper's interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from workflow_scripts.metrics import statistics
from workflow_scripts.problems import InputError
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds import kind_named
from workflow_scripts.report.kinds.classification import chance_level
from workflow_scripts.report.kinds.episodes import episode_accuracies
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import Cases, Header, read_cases, read_headers

from .conftest import WritePredictions

NO_BOOTSTRAP = Resampling(seed=0, resamples=0)
FEW = Resampling(seed=0, resamples=200)


def cell_values(cell: tuple[Header, ...], resampling: Resampling) -> tuple[Value, ...]:
    return kind_named(cell[0].kind).table_values([cell], resampling, jobs=1)


def by_metric(values: tuple[Value, ...]) -> dict[str, Value]:
    return {value.metric: value for value in values}


def read(write: WritePredictions, *files: dict[str, object]) -> tuple[Header, ...]:
    return read_headers([write(**file) for file in files])


def random_cases(seed: int, n: int = 200, classes: int = 3) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).integers(classes, size=n)  # the same for every seed
    scores = rng.normal(size=(n, classes)) + np.eye(classes)[truth]
    return {
        "image_id": [f"i{i:04}" for i in range(n)],
        "patient_id": [f"p{i // 3}" for i in range(n)],
        "truth": truth,
        **{f"score_{c}": scores[:, c] for c in range(classes)},
    }


def test_few_shot_value_and_interval_equal_the_hand_computed_ones(
    write_predictions: WritePredictions,
) -> None:
    headers = read(write_predictions, {"kind": "episodes"})
    value, chance = cell_values(headers, NO_BOOTSTRAP)
    # episode 0: all right but the fourth (3/4); episode 1: all right but the third (3/4)
    assert (value.value, value.ci_low, value.ci_high) == (0.75, 0.75, 0.75)
    assert (value.n, value.seeds, value.interval) == (2, 1, "episodes")
    assert math.isnan(value.seed_std)
    assert (chance.metric, chance.value, chance.interval) == ("chance", 0.5, "none")


def test_few_shot_interval_is_the_papers_for_one_seed(write_predictions: WritePredictions) -> None:
    headers = read(write_predictions, {"kind": "episodes", "cases": {"episode": np.arange(8)}})
    value = cell_values(headers, NO_BOOTSTRAP)[0]
    accuracies = np.array([1, 1, 1, 0, 1, 1, 0, 1])
    half_width = 1.96 * accuracies.std() / math.sqrt(8)
    assert value.value == 0.75
    assert value.ci_low == pytest.approx(0.75 - half_width)
    assert value.ci_high == 1.0  # 0.75 + 0.30 is cut
    assert value.half_width == pytest.approx(half_width)


def test_seeds_of_few_shot_are_averaged_and_their_variances_added(
    write_predictions: WritePredictions,
) -> None:
    files = []
    for seed in range(3):
        cases = {**random_cases(seed), "episode": np.repeat(np.arange(20), 10)}
        files.append({"cases": cases, "kind": "episodes", "seed": seed})
    headers = read(write_predictions, *files)
    value = cell_values(headers, NO_BOOTSTRAP)[0]
    parts = [episode_accuracies(read_cases(header)) for header in headers]
    variance = sum(part.var() / len(part) for part in parts) / 9
    assert value.value == pytest.approx(np.mean([part.mean() for part in parts]))
    assert value.half_width == pytest.approx(1.96 * math.sqrt(variance))
    assert value.seed_std == pytest.approx(np.std([part.mean() for part in parts], ddof=1))
    assert (value.n, value.seeds) == (60, 3)


def test_classification_values_equal_scikit_learns(write_predictions: WritePredictions) -> None:
    files = [{"cases": random_cases(seed), "seed": seed} for seed in (0, 1)]
    headers = read(write_predictions, *files)
    found = by_metric(cell_values(headers, NO_BOOTSTRAP))
    accuracies, recalls, areas = [], [], []
    for cases in map(read_cases, headers):
        predicted = cases.scores.argmax(axis=1)
        accuracies.append((predicted == cases.truth).mean())
        recalls.append(balanced_accuracy_score(cases.truth, predicted))
        soft = np.exp(cases.scores) / np.exp(cases.scores).sum(axis=1, keepdims=True)
        areas.append(roc_auc_score(cases.truth, soft, multi_class="ovr"))
    assert found["accuracy"].value == pytest.approx(np.mean(accuracies))
    assert found["mean_per_class_accuracy"].value == pytest.approx(np.mean(recalls))
    assert found["auc"].value == pytest.approx(np.mean(areas))
    assert found["auc"].seed_std == pytest.approx(np.std(areas, ddof=1))
    assert {value.n for value in found.values()} == {200}


@pytest.mark.parametrize("metric", ["accuracy", "mean_per_class_accuracy", "auc"])
def test_the_papers_metric_comes_first_and_chance_last(
    write_predictions: WritePredictions, metric: str
) -> None:
    values = cell_values(read(write_predictions, {"metric": metric}), NO_BOOTSTRAP)
    assert values[0].metric == metric
    assert values[-1].metric == "chance"
    assert len({value.metric for value in values}) == 4


def test_bootstrap_of_one_seed_is_that_of_the_statistics_module(
    write_predictions: WritePredictions,
) -> None:
    headers = read(write_predictions, {"cases": random_cases(0)})
    found = by_metric(cell_values(headers, FEW))
    cases = read_cases(headers[0])
    predicted = cases.scores.argmax(axis=1)
    stream = ("patient bootstrap", "ssl_transfer_linear", "released", "chestx")
    for metric, expected in {
        "accuracy": statistics.bootstrap_accuracy(
            cases.truth, predicted, cases.patient_id, named_rng(0, *stream), 200
        ),
        "auc": statistics.bootstrap_roc_auc(
            cases.truth, cases.scores, cases.patient_id, named_rng(0, *stream), 200
        ),
    }.items():
        assert (found[metric].ci_low, found[metric].ci_high) == (expected.low, expected.high)
        assert found[metric].interval == "patient bootstrap"


def test_bootstrap_of_seeds_is_that_of_their_mean(write_predictions: WritePredictions) -> None:
    files = [{"cases": random_cases(seed), "seed": seed} for seed in (0, 1)]
    headers = read(write_predictions, *files)
    found = by_metric(cell_values(headers, FEW))
    cases = [read_cases(header) for header in headers]
    patients = cases[0].patient_id
    rng = named_rng(0, "patient bootstrap", "ssl_transfer_linear", "released", "chestx")
    names = np.unique(patients)
    recalls = []
    for drawn in statistics.resamples(len(names), rng, 200):  # a plain loop over copies
        weight = dict(zip(names, drawn, strict=True))
        rows = np.repeat(np.arange(len(patients)), [weight[name] for name in patients])
        recalls.append(
            np.mean(
                [
                    balanced_accuracy_score(case.truth[rows], case.scores[rows].argmax(axis=1))
                    for case in cases
                ]
            )
        )
    value = found["mean_per_class_accuracy"]
    assert [value.ci_low, value.ci_high] == pytest.approx(np.quantile(recalls, [0.025, 0.975]))


def test_the_order_of_the_rows_changes_nothing(write_predictions: WritePredictions) -> None:
    cases = random_cases(0)
    order = np.random.default_rng(1).permutation(200)
    shuffled = {name: np.asarray(column)[order] for name, column in cases.items()}
    pair = [read(write_predictions, {"cases": one}) for one in (cases, shuffled)]
    assert repr(cell_values(pair[0], FEW)) == repr(cell_values(pair[1], FEW))


def test_seeds_may_hold_their_cases_in_any_order(write_predictions: WritePredictions) -> None:
    order = np.random.default_rng(1).permutation(200)
    second = random_cases(1)
    shuffled = {name: np.asarray(column)[order] for name, column in second.items()}
    plain, mixed = (
        read(write_predictions, {"cases": random_cases(0)}, {"cases": cases, "seed": 1})
        for cases in (second, shuffled)
    )
    assert repr(cell_values(plain, FEW)) == repr(cell_values(mixed, FEW))


def test_an_undefined_metric_is_nan_without_interval_and_with_its_count(
    write_predictions: WritePredictions,
) -> None:
    one_class = {"truth": np.zeros(8, dtype=int)}
    found = by_metric(cell_values(read(write_predictions, {"cases": one_class}), FEW))
    for metric in ("auc", "mean_per_class_accuracy"):  # released: a class only predicted
        assert math.isnan(found[metric].value)
        assert math.isnan(found[metric].ci_low)
        assert (found[metric].n, found[metric].interval) == (8, "none")
    assert found["accuracy"].value == 0.5


def test_corrected_recall_skips_a_class_that_is_only_predicted(
    write_predictions: WritePredictions,
) -> None:
    file = {"cases": {"truth": np.zeros(8, dtype=int)}, "protocol": "corrected"}
    found = by_metric(cell_values(read(write_predictions, file), NO_BOOTSTRAP))
    assert found["mean_per_class_accuracy"].value == 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": [f"j{i}" for i in range(8)]}, "found other image_id"),
        ({"patient_id": [f"q{i}" for i in range(8)]}, "found other patient_id"),
        ({"truth": np.ones(8, dtype=int)}, "found other truth"),
        ({"score_2": np.zeros(8)}, "found other classes"),
    ],
)
def test_seeds_with_other_cases_are_refused(
    write_predictions: WritePredictions, changed: dict[str, object], message: str
) -> None:
    headers = read(write_predictions, {}, {"seed": 1, "cases": changed})
    with pytest.raises(InputError) as error:
        cell_values(headers, NO_BOOTSTRAP)
    assert message in str(error.value)
    assert str(headers[1].path) in str(error.value)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_a_constant_prediction_reaches_the_chance_level(truth: list[int]) -> None:
    labels = np.array(truth)
    ids = np.array([str(i) for i in range(len(truth))])
    cases = Cases(labels, np.zeros((len(truth), 5)), ids, ids, None)
    common = np.full(len(truth), np.bincount(labels).argmax())
    assert chance_level("accuracy", cases) == (labels == common).mean()
    expected = balanced_accuracy_score(labels, common) if len(set(truth)) > 1 else 1.0
    assert chance_level("mean_per_class_accuracy", cases) == pytest.approx(expected)
    assert chance_level("auc", cases) == 0.5


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"drop": ("patient_id",)}, "expected image_id, patient_id, truth, score_0, score_1"),
        ({"drop": ("score_1",)}, "score_0, score_1"),
        ({"drop": ("episode",), "kind": "episodes"}, "episode"),
        ({"cases": {"truth": np.full(8, 2)}}, "row 0 truth: expected a class of 0 to 1, found 2"),
        ({"cases": {"truth": np.full(8, 0.5)}}, "column truth: expected integers"),
        ({"cases": {"score_0": np.array([0, np.nan] * 4)}}, "row 1 scores: expected finite"),
        ({"cases": {"patient_id": ["p", None] * 4}}, "columns patient_id: expected no gap"),
        ({"cases": {"image_id": ["i"] * 8}}, "image i: expected each image once, found 8 times"),
    ],
)
def test_bad_cases_are_refused(
    write_predictions: WritePredictions, file: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        cell_values(read(write_predictions, file), NO_BOOTSTRAP)
    assert message in str(error.value)


def test_a_file_without_a_case_is_refused(write_predictions: WritePredictions) -> None:
    names = ("image_id", "patient_id", "truth", "score_0", "score_1")
    empty = {name: np.array([], dtype=float) for name in names}
    with pytest.raises(InputError, match="expected at least one case, found none"):
        cell_values(read(write_predictions, {"cases": empty}), NO_BOOTSTRAP)

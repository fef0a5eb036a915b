from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from workflow_scripts.metrics.classification import accuracy
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.linear import main, score_of, split_parts
from workflow_scripts.ssl_transfer.protocols import LINEAR
from workflow_scripts.ssl_transfer.regularisation_path import c_values
from workflow_scripts.ssl_transfer.validation import released_validation

EvaluationFiles = Any  # the class in conftest.py, which tests cannot import
Maker = Callable[..., EvaluationFiles]


def evaluate(
    files: EvaluationFiles, protocol: str, *more: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    files.provenance["normalisation"] = LINEAR[protocol].normalisation
    main(files.arguments(protocol, "--path", str(files.folder / "path.csv"), *more))
    out: Path = files.folder / f"{protocol}.parquet"
    return pd.read_parquet(out), json.loads(pq.read_schema(out).metadata[b"steadfast"])


@pytest.mark.parametrize("protocol", ["released", "corrected"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_row_a_test_image_with_one_logit_a_class(
    make_files: Maker, protocol: str, n_classes: int
) -> None:
    files = make_files(n_classes=n_classes)
    table, metadata = evaluate(files, protocol)
    column = LINEAR[protocol].split_column
    test = files.table[files.table[column] == "test"]
    assert table.image_id.tolist() == test.image_id.tolist()
    assert table.truth.tolist() == test.label.tolist()
    assert [name for name in table if name.startswith("score")] == [
        f"score_{i}" for i in range(n_classes)
    ]
    assert metadata["kind"] == "classification"
    assert metadata["metric"] == "accuracy"
    assert metadata["options"]["c_order"] == LINEAR[protocol].c_order
    scores = table.filter(like="score_").to_numpy()
    assert accuracy(table.truth, scores.argmax(1)).value > 0.8  # the classes are far apart


def test_released_result_equals_scikit_learn_step_by_step(make_files: Maker) -> None:
    from sklearn.linear_model import LogisticRegression

    files = make_files(n_images=90, n_classes=3)
    table, metadata = evaluate(files, "released")
    ordered = files.table.sort_values("order_released")
    train = ordered[ordered.split_released == "train"]
    x, y = files.features[train.index], train.label.to_numpy()
    validation, training = released_validation(len(train), seed=0)
    model = LogisticRegression(warm_start=True)
    best_c, best_score = None, 0.0
    for c in c_values().tolist():
        model.set_params(C=c).fit(x[training], y[training])
        score = (model.predict(x[validation]) == y[validation]).mean()
        if score > best_score:
            best_c, best_score = c, score
    model.set_params(C=best_c).fit(x, y)
    test = files.table[files.table.split_released == "test"]
    expected = model.decision_function(files.features[test.index]).astype(float)
    assert metadata["diagnostics"]["chosen_c"] == best_c
    np.testing.assert_array_equal(table.filter(like="score_").to_numpy(), expected)


def test_path_file_holds_every_fit_and_the_chosen_one(make_files: Maker) -> None:
    files = make_files()
    _, metadata = evaluate(files, "corrected")
    path = pd.read_csv(files.folder / "path.csv")
    assert list(path) == ["fit", "c", "score", "n_iterations", "converged", "chosen"]
    np.testing.assert_array_equal(path.c[:45], c_values()[::-1])  # ascending
    assert path.fit.iloc[-1] == "final"
    chosen = path[path.chosen]
    assert len(chosen) == 1
    assert chosen.c.item() == path.c.iloc[-1] == metadata["diagnostics"]["chosen_c"]
    first_best = path[:45].score.idxmax()
    assert chosen.index.item() == first_best
    assert path.converged.all()
    assert metadata["diagnostics"]["fits_converged"] == 45
    assert metadata["diagnostics"]["final_converged"] is True


def test_corrected_validation_and_training_make_up_all_but_the_test_part(make_files: Maker) -> None:
    files = make_files()
    _, metadata = evaluate(files, "corrected")
    counts = metadata["diagnostics"]
    assert counts["test_images"] == (files.table.split == "test").sum()
    assert counts["training_images"] + counts["validation_images"] == 60 - counts["test_images"]
    assert counts["validation_images"] == 10  # floor(48 / 5) = 9, in whole patients of two


def test_corrected_validation_moves_with_the_seed_and_shares_no_patient(make_files: Maker) -> None:
    options = LINEAR["corrected"]
    cases = make_files().cases("corrected", options)
    drawn = []
    for seed in (0, 1, 0):
        parts = split_parts(cases, options, seed)
        drawn.append(parts.validation.image_id.tolist())
        assert not set(parts.validation.patient_id) & set(parts.training.patient_id)
        assert not set(parts.test.image_id) & {*parts.validation.image_id, *parts.training.image_id}
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("protocol", ["released", "corrected"])
def test_two_runs_give_identical_files(make_files: Maker, protocol: str) -> None:
    files = make_files()
    contents = []
    for _ in range(2):
        evaluate(files, protocol)
        names = (f"{protocol}.parquet", "path.csv")
        contents.append([(files.folder / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_a_quarantined_image_moves_no_other_between_training_and_validation(
    make_files: Maker,
) -> None:
    options = LINEAR["released"]
    files = make_files()
    files.provenance["normalisation"] = options.normalisation
    whole = split_parts(files.cases("released", options), options, seed=0)
    keep = files.image_id != whole.validation.image_id.iloc[0]
    files.features, files.image_id = files.features[keep], files.image_id[keep]
    rest = split_parts(files.cases("released", options), options, seed=0)
    assert rest.training.image_id.tolist() == whole.training.image_id.tolist()
    assert rest.validation.image_id.tolist() == whole.validation.image_id.tolist()[1:]


def test_mean_per_class_accuracy_judges_the_search_when_the_card_says_so() -> None:
    truth, prediction = np.array([0, 1, 1, 0]), np.array([0, 1, 2, 0])
    released = score_of("mean_per_class_accuracy", LINEAR["released"])
    corrected = score_of("mean_per_class_accuracy", LINEAR["corrected"])
    assert np.isnan(released(truth, prediction))  # golden `metrics`, class 2 only predicted
    assert corrected(truth, prediction) == 0.75


def test_a_metric_that_no_search_can_use_is_refused(make_files: Maker) -> None:
    files = make_files()
    files.card["metric"] = "auc"
    with pytest.raises(InputError, match="expected accuracy or mean_per_class_accuracy"):
        evaluate(files, "corrected")


def test_no_threads_are_refused(make_files: Maker) -> None:
    with pytest.raises(InputError, match="--threads: expected at least 1, found 0"):
        evaluate(make_files(), "corrected", "--threads", "0")


def test_a_class_without_training_image_is_named(make_files: Maker) -> None:
    files = make_files(n_classes=3)
    files.table.loc[files.table.label == 2, ["split", "split_released"]] = "test"
    for protocol in ("released", "corrected"):
        with pytest.raises(InputError, match="training part, class 'class 2': expected at least"):
            evaluate(files, protocol)


def test_a_data_set_without_test_part_is_refused(make_files: Maker) -> None:
    files = make_files()
    files.table["split"] = "train"
    with pytest.raises(InputError, match="test part: expected at least one image, found none"):
        evaluate(files, "corrected")
    assert not (files.folder / "path.csv").exists()


def test_features_with_the_normalisation_of_the_other_protocol_are_refused(
    make_files: Maker,
) -> None:
    files = make_files()
    with pytest.raises(InputError, match="provenance 'normalisation': expected 'none'"):
        main(files.arguments("released", "--path", str(files.folder / "path.csv")))

"""kNN, CKA and ID/OOD: steps that read cached features only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.neighbors import KNeighborsClassifier

from workflow_scripts.datasets import leaks
from workflow_scripts.metrics.representation import alignment, cka, gram
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import cka as cka_step
from workflow_scripts.ssl_transfer import id_ood, knn

EvaluationFiles = Any  # the class in conftest.py, which tests cannot import
Maker = Callable[..., EvaluationFiles]


def metadata(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"steadfast"])
    return content


def test_knn_equals_scikit_learn_on_the_test_part(make_files: Maker) -> None:
    files = make_files(n_classes=3)
    knn.main(files.arguments("corrected", "--neighbours", "7"))
    out = files.folder / "corrected.parquet"
    table = pd.read_parquet(out)
    is_test = (files.table.split == "test").to_numpy()
    unit = files.features / np.linalg.norm(files.features, axis=1, keepdims=True)
    model = KNeighborsClassifier(7, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07))
    model.fit(unit[~is_test], files.table.label[~is_test])
    votes = np.exp(table.filter(like="score_").to_numpy()) * (1 + 3e-6) - 1e-6
    np.testing.assert_allclose(votes, model.predict_proba(unit[is_test]), atol=1e-6)
    assert table.image_id.tolist() == files.table.image_id[is_test].tolist()
    assert metadata(out)["options"]["n_neighbours"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--neighbours", "500"], "--neighbours: expected 1 to 48"),
        (["--neighbours", "0"], "--neighbours: expected 1 to 48"),
        (["--temperature", "0"], "--temperature: expected a number above 0"),
    ],
)
def test_knn_options_that_cannot_be_are_refused(
    make_files: Maker, words: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        knn.main(make_files().arguments("corrected", *words))


def test_knn_has_no_released_protocol(make_files: Maker) -> None:
    with pytest.raises(InputError, match="no released code has this step"):
        knn.main(make_files().arguments("released"))


def feature_files(files: EvaluationFiles, n_checkpoints: int) -> list[Path]:
    """Write features of several checkpoints on one data set."""
    files.arguments("corrected")
    paths = []
    for number in range(n_checkpoints):
        rng = np.random.default_rng(number)
        mixed = files.features @ rng.normal(size=(6, 4 + number)).astype(np.float32)
        origin = {**files.provenance, "checkpoint": f"c{number}", "phantom": False}
        paths.append(files.folder / f"c{number}.npz")
        np.savez(
            paths[-1], features=mixed, image_id=files.image_id,
            provenance=json.dumps({**origin, "pretrained": True}),
        )  # fmt: skip
    return paths


def cka_words(files: EvaluationFiles, paths: list[Path], n_out: int) -> list[str]:
    outs = [str(files.folder / f"pair{i}.parquet") for i in range(n_out)]
    return [
        *("--features", *map(str, paths), "--manifest", str(files.folder / "manifest.parquet")),
        *("--card", str(files.folder / "card.json"), "--out", *outs),
    ]


def test_cka_compares_every_pair_on_one_image_a_patient(make_files: Maker) -> None:
    files = make_files()
    paths = feature_files(files, 3)
    cka_step.main(cka_words(files, paths, 3))
    tables = [pd.read_parquet(files.folder / f"pair{i}.parquet") for i in range(3)]
    assert all(len(table) == 30 for table in tables)
    assert tables[0].patient_id.nunique() == 30
    names = [metadata(files.folder / f"pair{i}.parquet") for i in range(3)]
    assert [(one["row"], one["column"]) for one in names] == [
        ("c0", "tiny c1"), ("c0", "tiny c2"), ("c1", "tiny c2"),
    ]  # fmt: skip
    rows = files.table.set_index("image_id").index.get_indexer(tables[2].image_id)
    x, y = (np.load(paths[i])["features"][rows] for i in (1, 2))
    sums = tables[2].filter(like="score_").sum()
    found = sums.score_xy / np.sqrt(sums.score_xx * sums.score_yy)
    assert found == pytest.approx(cka(alignment(gram(x), gram(y))), rel=1e-9)


def test_cka_of_features_that_do_not_fit_is_refused(make_files: Maker) -> None:
    files = make_files()
    paths = feature_files(files, 2)
    with pytest.raises(InputError, match="expected 1 files for the pairs of 2 checkpoints"):
        cka_step.main(cka_words(files, paths, 2))
    with pytest.raises(InputError, match="expected each checkpoint once, found c0 again"):
        cka_step.main(cka_words(files, [paths[0], paths[0]], 1))
    files.provenance["geometry"] = "squash224"
    paths[1:] = feature_files(files, 2)[1:]
    files.provenance["geometry"] = "short224"
    feature_files(files, 1)
    with pytest.raises(InputError, match="provenance 'geometry': expected 'short224'"):
        cka_step.main(cka_words(files, paths, 1))


@pytest.fixture
def hospitals(make_files: Maker, tmp_path: Path) -> list[EvaluationFiles]:
    """Two data sets with one task; in the second the classes lie the other way round."""
    made = []
    for number, name in enumerate(("home", "away")):
        files = make_files(n_images=60 + 20 * number)
        files = replace(files, folder=tmp_path / name)
        files.folder.mkdir()
        files.card["dataset"] = files.provenance["dataset"] = name
        files.table["sha256"] = [f"{name}-{image}" for image in files.table.image_id]
        if number:
            files.features[:, :2] = files.features[:, 1::-1]
        files.arguments("corrected")
        note = {"dataset": name, "patients": name, "patients_known": True}
        path = files.folder / "manifest.parquet"
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"steadfast": json.dumps(note)}), path)
        made.append(files)
    return made


def id_ood_words(hospitals: list[EvaluationFiles], folder: Path, train: str) -> list[str]:
    folders = [files.folder for files in hospitals]
    experiment = folder / "experiment.json"
    leaks.main(["--manifests", *(str(f / "manifest.parquet") for f in folders),
                "--out", str(experiment)])  # fmt: skip
    return [
        *("--train", train, "--experiment-leak-free", str(experiment)),
        *("--features", *(str(f / "features.npz") for f in folders)),
        *("--manifests", *(str(f / "manifest.parquet") for f in folders)),
        *("--cards", *(str(f / "card.json") for f in folders)),
        *("--leak-free", *(str(f / "leak-free.json") for f in folders)),
        *("--certificate", str(folders[0] / "certificate.json")),
        *("--out", *(str(folder / f"{f.name}.parquet") for f in folders)),
    ]


def test_probe_works_at_home_and_fails_where_the_classes_are_exchanged(
    hospitals: list[EvaluationFiles], tmp_path: Path
) -> None:
    id_ood.main(id_ood_words(hospitals, tmp_path, "home"))
    accuracies = []
    for files in hospitals:
        out = tmp_path / f"{files.folder.name}.parquet"
        table = pd.read_parquet(out)
        is_test = files.table.split == "test"
        assert table.image_id.tolist() == files.table.image_id[is_test].tolist()
        assert table.truth.tolist() == files.table.label[is_test].tolist()
        accuracies.append((table.score_1 > table.score_0).eq(table.truth == 1).mean())
        assert metadata(out)["column"] == f"home to {files.folder.name}"
        assert metadata(out)["metric"] == "auc"
    assert accuracies[0] > 0.9
    assert accuracies[1] < 0.1


def test_id_probe_is_the_linear_evaluation_s(
    hospitals: list[EvaluationFiles], tmp_path: Path
) -> None:
    from workflow_scripts.ssl_transfer import linear

    id_ood.main(id_ood_words(hospitals, tmp_path, "home"))
    words = hospitals[0].arguments("corrected", "--path", str(tmp_path / "path.csv"))
    linear.main(words)
    alone = pd.read_parquet(hospitals[0].folder / "corrected.parquet")
    together = pd.read_parquet(tmp_path / "home.parquet")
    np.testing.assert_allclose(
        alone.filter(like="score_"), together.filter(like="score_"), rtol=1e-9
    )


def test_another_manifest_than_the_certified_one_is_refused(
    hospitals: list[EvaluationFiles], tmp_path: Path
) -> None:
    words = id_ood_words(hospitals, tmp_path, "home")
    content = json.loads((tmp_path / "experiment.json").read_text())
    content["split"]["manifests"]["away"] = "0" * 64
    (tmp_path / "experiment.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="data set away: expected its manifest"):
        id_ood.main(words)
    content["split"] |= {"leak_free": False}
    (tmp_path / "experiment.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no patient and no file in two splits"):
        id_ood.main(words)


def test_data_sets_that_cannot_be_compared_are_refused(
    hospitals: list[EvaluationFiles], tmp_path: Path
) -> None:
    words = id_ood_words(hospitals, tmp_path, "elsewhere")
    with pytest.raises(InputError, match="--train: expected one of home, away, found elsewhere"):
        id_ood.main(words)
    words[1] = "home"
    card = hospitals[1].folder / "card.json"
    card.write_text(json.dumps({**hospitals[1].card, "classes": ["benign", "malign"]}))
    with pytest.raises(InputError, match="data set away: expected the classes class 0, class 1"):
        id_ood.main(words)
    with pytest.raises(InputError, match="lists of one length, at least two data sets"):
        id_ood.main([*words, str(tmp_path / "one_more.parquet")])

from __future__ import annotations

import csv
import json
import os
import signal
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from tests.cooperative_training.archive import training_words, write_archive
from workflow_scripts.cooperative_training import train_segmenter
from workflow_scripts.cooperative_training.methods import METHODS
from workflow_scripts.cooperative_training.protocols import TRAINING
from workflow_scripts.files import sha256_of
from workflow_scripts.problems import InputError
from workflow_scripts.training.failures import SavedNotFinished


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archive(tmp_path_factory.mktemp("acdc"))


def read_history(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with path.open() as handle:
        for row in csv.DictReader(handle):
            found.setdefault(row["metric"], []).append(float(row["value"]))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_the_terms_it_promises(
    method: str, archive: dict[str, Path], tmp_path: Path
) -> None:
    train_segmenter.main(training_words(archive, tmp_path, method, epochs=1))
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["updates"] == 6  # 2 patients x 2 frames x 3 slices in half batches of 2
    assert record["patients"] == {"train": ["001", "002"], "val": ["003"], "in_both": []}
    assert record["weights_sha256"] == sha256_of(tmp_path / "weights.safetensors")
    assert 0 <= record["best_val_mean_iou"] <= 1
    hard = {name[10:] for name in read_history(tmp_path / "history.csv") if "loss/hard" in name}
    images, shapes = {"seg", "image", "shape"}, {"corrupted_shape"}
    expected = {
        "standard": set(),
        "images_only": images,
        "random_windows": images,
        "outside_windows": images,
        "random_convolutions": images,
        "segmentations_only": shapes,
    }
    assert hard == expected.get(method, images | shapes)
    assert not (tmp_path / "state").exists() or not list((tmp_path / "state").glob("*.pt"))


def test_an_interrupted_training_ends_with_the_same_weights(
    archive: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
    train_segmenter.main(training_words(archive, whole, "cooperative"))
    real, calls = train_segmenter.update, 0

    def update(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 8:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    monkeypatch.setattr(train_segmenter, "update", update)
    with pytest.raises(SavedNotFinished):
        train_segmenter.main(training_words(archive, torn, "cooperative"))
    assert not (torn / "weights.safetensors").exists()
    monkeypatch.undo()
    train_segmenter.main(training_words(archive, torn, "cooperative"))
    first, second = (load_file(one / "weights.safetensors") for one in (whole, torn))
    assert all((first[name] == second[name]).all() for name in first)
    assert (whole / "history.csv").read_bytes() == (torn / "history.csv").read_bytes()


def test_an_interrupted_training_does_not_go_on_with_other_voxels(
    archive: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another grid or normalisation may leave index and manifest as they are."""

    def update(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    real = train_segmenter.update
    monkeypatch.setattr(train_segmenter, "update", update)
    with pytest.raises(SavedNotFinished):
        train_segmenter.main(training_words(archive, tmp_path, "standard"))
    monkeypatch.undo()
    for name in ("images", "masks"):
        other = tmp_path / f"{name}.npy"
        np.save(other, np.load(archive[name])[::-1])
        with pytest.raises(InputError, match=f"file.{name}"):
            train_segmenter.main(training_words({**archive, name: other}, tmp_path, "standard"))


def test_another_seed_trains_other_weights(archive: dict[str, Path], tmp_path: Path) -> None:
    hashes = set()
    for seed in (1, 2):
        out = tmp_path / str(seed)
        out.mkdir()
        train_segmenter.main(training_words(archive, out, "standard", epochs=1, seed=seed))
        hashes.add(sha256_of(out / "weights.safetensors"))
    assert len(hashes) == 2


def test_a_limit_of_updates_acts(archive: dict[str, Path], tmp_path: Path) -> None:
    words = training_words(archive, tmp_path, "standard", **{"max-updates": 4})
    train_segmenter.main(words)
    assert json.loads((tmp_path / "training.json").read_text())["updates"] == 4


def test_a_list_that_leaks_is_refused(archive: dict[str, Path], tmp_path: Path) -> None:
    proofs = json.loads(archive["leak_free.json"].read_text())
    proofs["split_released_10_cv_0"]["patients_in_two_splits"] = 1
    leaking = tmp_path / "leak_free.json"
    leaking.write_text(json.dumps(proofs))
    with pytest.raises(InputError, match="1 patients and 0 files in two splits"):
        train_segmenter.main(
            training_words({**archive, "leak_free.json": leaking}, tmp_path, "standard")
        )


def overlapping(archive: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Return the archive with a patient who trains and validates, as the certificate knows."""
    source = archive["manifest.parquet"]
    metadata = pq.read_schema(source).metadata
    rows = pd.read_parquet(source)
    both = rows["patient_id"] == "002"
    rows.loc[both, "split_released_10_cv_0"] = "train+val"
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "manifest.parquet")
    proofs = json.loads(archive["leak_free.json"].read_text())
    known = {"leak_free": False, "patients_in_two_splits": 1, "files_in_two_splits": 2}
    proofs["split_released_10_cv_0"] |= known
    (folder / "leak_free.json").write_text(json.dumps(proofs))
    return {**archive, **{name: folder / name for name in ("manifest.parquet", "leak_free.json")}}


def test_a_list_with_overlap_trains_only_where_that_is_asked_for_by_name(
    archive: dict[str, Path], tmp_path: Path
) -> None:
    paths = overlapping(archive, tmp_path)
    with pytest.raises(InputError, match="found 002 in training and validation"):
        train_segmenter.main(training_words(paths, tmp_path, "standard"))
    found = {}
    for protocol, more in (("released", {}), ("corrected", {"overlap": "leave_out"})):
        words = {"protocol": protocol, "max-updates": 1, **more}
        train_segmenter.main(training_words(paths, tmp_path, "standard", **words))
        found[protocol] = json.loads((tmp_path / "training.json").read_text())
    assert found["released"]["patients"]["val"] == ["002", "003"]
    assert found["corrected"]["patients"]["val"] == ["003"]
    for protocol, overlap in (("released", "keep"), ("corrected", "leave_out")):
        assert found[protocol]["patients"]["train"] == ["001", "002"]
        assert found[protocol]["patients"]["in_both"] == ["002"]
        assert found[protocol]["options"]["overlap"] == overlap


def test_released_keeps_its_lists_where_corrected_leaves_patients_out() -> None:
    given = {
        name: train_segmenter.protocol_of(Namespace(protocol=name, overlap="leave_out"))
        for name in TRAINING
    }
    assert given["released"] == TRAINING["released"]
    assert given["corrected"].overlap == "leave_out"


def test_mixed_precision_trains_and_says_so(archive: dict[str, Path], tmp_path: Path) -> None:
    words = {"precision": "bf16", "max-updates": 2}
    train_segmenter.main(training_words(archive, tmp_path, "channel_masks", **words))
    assert json.loads((tmp_path / "training.json").read_text())["precision"] == "bf16"
    weights = load_file(tmp_path / "weights.safetensors")
    assert {value.dtype.name for value in weights.values()} == {"float32", "int64"}
    assert all(np.isfinite(value).all() for value in weights.values())


def test_sizes_of_zero_are_refused(archive: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        train_segmenter.main(training_words(archive, tmp_path, "standard", epochs=0))

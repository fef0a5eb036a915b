"""The steps after training, from files to files: scores, artefacts, hard examples; bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cooperative_training.archive import mask_of, training_words, write_archive, write_store
from workflow_scripts.cooperative_training import (
    hard_examples,
    score_segmenter,
    severity_scores,
    train_segmenter,
)
from workflow_scripts.cooperative_training.inference import Segmenter
from workflow_scripts.problems import InputError
from workflow_scripts.report.kinds.segmentation import table_values
from workflow_scripts.report.predictions import read_case_columns, read_headers
from workflow_scripts.report.table import Resampling, group_cells

Paths = dict[str, Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """An archive and a training of one epoch."""
    paths = write_archive(tmp_path_factory.mktemp("acdc"))
    out = tmp_path_factory.mktemp("training")
    train_segmenter.main(training_words(paths, out, "cooperative", epochs=1))
    return paths | {"weights": out / "weights.safetensors", "training": out / "training.json"}


def words_of(paths: Paths, **more: object) -> list[str]:
    """Return the words that name weights, record, store and manifest."""
    given: dict[str, object] = {
        **{name: paths[name] for name in ("weights", "training", "images", "masks", "index")},
        "manifest": paths["manifest.parquet"],
        **more,
    }
    return [word for name, value in given.items() for word in (f"--{name}", *str(value).split())]


def rewrite(path: Path, folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """Write an edited copy of a manifest or index, metadata kept; return its path."""
    schema = pq.read_schema(path)
    table = pa.Table.from_pandas(edit(pd.read_parquet(path)), preserve_index=False)
    copy = folder / path.name
    pq.write_table(table.replace_schema_metadata(schema.metadata), copy)
    return copy


def test_every_structure_of_every_test_volume_has_a_row_for_each_number_of_passes(
    trained: Paths, tmp_path: Path
) -> None:
    out = [tmp_path / "pass0.parquet", tmp_path / "pass2.parquet"]
    pictures = tmp_path / "pictures.npz"
    named = {"passes": "0 2", "out": f"{out[0]} {out[1]}", "pictures": pictures}
    score_segmenter.main(words_of(trained, **named))
    headers = read_headers(out)
    rows = ["cooperative, 2 patients, FTN", "cooperative, 2 patients, FTN+2xSTN"]
    assert [header.row for header in headers] == rows
    assert {(header.data, header.kind, header.seed) for header in headers} == {
        ("phantom", "segmentation", 40)
    }
    for header, row in zip(headers, rows, strict=True):
        columns = read_case_columns(header)
        assert list(columns["image_id"]) == ["004_ED"] * 3 + ["004_ES"] * 3
        assert list(columns["structure"]) == ["LV", "MYO", "RV"] * 2
        assert set(columns["test_set"]) == {"ACDC"}
        assert set(columns["compared_with"]) == {row.replace("cooperative", "standard")}
        assert (columns["reference_voxels"] > 0).all()
        defined = columns["score_dice"][np.isfinite(columns["score_dice"])]
        assert ((defined >= 0) & (defined <= 1)).all()
    cells = group_cells("cooperative_training_dice", headers)
    found = {(one.row, one.metric): one.value for one in table_values(cells, Resampling(0, 0), 1)}
    by_hand = read_case_columns(headers[1])["score_dice"].mean()
    assert found[rows[1], "dice"] == pytest.approx(by_hand)
    with np.load(pictures) as arrays:
        assert str(arrays["data"]) == "phantom"
        assert arrays["best_dice"][1] >= arrays["median_dice"][1] >= arrays["worst_dice"][1]
        assert arrays["worst_pass2"].shape == arrays["worst_truth"].shape == (20, 24)


def test_scores_are_those_of_the_segmentations(trained: Paths, tmp_path: Path) -> None:
    from workflow_scripts.cooperative_training.inference import device_of, load_segmenter
    from workflow_scripts.datasets.volume_reader import VolumeStore
    from workflow_scripts.metrics.segmentation import dice

    named = {"passes": "1", "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    score_segmenter.main(words_of(trained, **named))
    columns = read_case_columns(read_headers([tmp_path / "s.parquet"])[0])
    segmenter = load_segmenter(trained["weights"], trained["training"], device_of(0))
    store = VolumeStore(trained["images"], trained["masks"], trained["index"])
    for row in range(6):
        volume = store.volume(columns["image_id"][row])
        labels = segmenter.segment(volume.image, [1], rescales_slices=False)[1]
        number = row % 3 + 1
        assert columns["score_dice"][row] == dice(volume.mask == number, labels == number)
        assert columns["predicted_voxels"][row] == (labels == number).sum()


def test_a_perfect_segmenter_scores_one_and_zero_mm(
    trained: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truth comes back from the gray values, so row order and pairing are right."""

    def read(self: Segmenter, image: np.ndarray, passes: Any, rescales: bool) -> Any:
        labels = np.clip(np.floor(image / 0.7 * 3 - 1e-6), 0, 3).astype(np.uint8)
        return dict.fromkeys(passes, labels)

    monkeypatch.setattr(Segmenter, "segment", read)
    store = np.load(trained["masks"]) / 3 * 0.7 + 0.01  # without noise
    np.save(tmp_path / "clear.npy", store.astype(np.float32))
    named = {"passes": "0", "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    score_segmenter.main(words_of(trained | {"images": tmp_path / "clear.npy"}, **named))
    columns = read_case_columns(read_headers([tmp_path / "s.parquet"])[0])
    assert (columns["score_dice"] == 1).all()
    assert (columns["score_hd95_mm"] == 0).all()


def test_artefacts_are_scored_level_by_level(trained: Paths, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    named = {"levels": "0.5 1", "draws": 1, "stn-passes": 1, "seed": 0, "out": out}
    severity_scores.main(words_of(trained, **named))
    header = read_headers([out])[0]
    columns = read_case_columns(header)
    assert header.row == "cooperative, 2 patients, FTN+STN"
    assert len(columns["image_id"]) == 2 * (1 + 4 * 2) * 3
    assert set(columns["severity"][columns["corruption"] == "none"]) == {0.0}
    for kind in ("RandomBias", "RandomGhosting", "RandomMotion", "RandomSpike"):
        assert (
            list(columns["severity"][columns["corruption"] == kind])
            == [0.5] * 3 + [1] * 3 + [0.5] * 3 + [1] * 3
        )
    with pytest.raises(InputError, match="a draw or more"):
        severity_scores.main(words_of(trained, **{**named, "draws": 0}))


def test_hard_examples_have_every_kind_and_share_of_mask(trained: Paths, tmp_path: Path) -> None:
    out = tmp_path / "arrays.npz"
    hard_examples.main(words_of(trained, seed=0, out=out))
    with np.load(out) as stored:
        arrays = dict(stored)
    kinds, shares, crop = 3, 3, 16
    assert arrays["image"].shape == arrays["truth"].shape == (crop, crop)
    for name in ("corrupted_image", "corrupted_labels", "entropy"):
        assert arrays[name].shape == (kinds, shares, crop, crop)
    assert ((arrays["entropy"] >= 0) & (arrays["entropy"] <= 2 + 1e-6)).all()  # of four classes
    assert ((arrays["corrupted_image"] > 0) & (arrays["corrupted_image"] < 1)).all()
    dropped = arrays["corrupted_image"][0]
    away = [np.abs(one - arrays["reconstruction"]).mean() for one in dropped]
    assert away[0] < away[2]  # more channels, another image
    assert str(arrays["data"]) == "phantom"


Edit = Callable[[pd.DataFrame], pd.DataFrame]
REFUSED: dict[str, tuple[str, Edit, str]] = {
    "nobody tests": (
        "manifest.parquet",
        lambda rows: rows.assign(split="train"),
        "expected volumes in split test that the store holds, found none",
    ),
    "a test patient trained": (
        "manifest.parquet",
        lambda rows: rows.assign(split="test"),
        "001, 002, 003 in both",
    ),
    "no spacing": (
        "index",
        lambda rows: rows.assign(
            spacing_row_mm=rows["spacing_row_mm"].mask(rows["image_id"] == "004_ES")
        ),
        "volume 004_ES: expected a spacing in mm along each axis, found none",
    ),
    "a spacing of zero": (
        "index",
        lambda rows: rows.assign(spacing_slice_mm=0.0),
        "volume 004_ED: expected a spacing in mm",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_volumes_that_cannot_be_scored_are_refused(
    trained: Paths, tmp_path: Path, name: str
) -> None:
    file, edit, expected = REFUSED[name]
    edited = trained | {file: rewrite(trained[file], tmp_path, edit)}
    named = {"passes": "0", "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    with pytest.raises(InputError, match=expected):
        score_segmenter.main(words_of(edited, **named))
    assert not (tmp_path / "s.parquet").exists()


@pytest.mark.parametrize("passes", ["0 1", "-1"])
def test_passes_that_do_not_fit_the_files_are_refused(
    trained: Paths, tmp_path: Path, passes: str
) -> None:
    named = {"passes": passes, "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    with pytest.raises(InputError, match="one file for each number of corrections, from 0"):
        score_segmenter.main(words_of(trained, **named))


def test_a_manifest_without_its_metadata_is_refused(trained: Paths, tmp_path: Path) -> None:
    bare = tmp_path / "manifest.parquet"
    pd.read_parquet(trained["manifest.parquet"]).to_parquet(bare)
    named = {"passes": "0", "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    with pytest.raises(InputError, match="expected a manifest"):
        score_segmenter.main(words_of(trained | {"manifest.parquet": bare}, **named))


def test_one_slice_volumes_train_and_are_scored(tmp_path: Path) -> None:
    paths = write_archive(tmp_path)
    names = list(pd.read_parquet(paths["manifest.parquet"])["image_id"])
    masks = {name: mask_of(n, shape=(1, 20, 24)) for n, name in enumerate(names)}
    paths |= write_store(tmp_path, masks)
    train_segmenter.main(training_words(paths, tmp_path, "cooperative", epochs=1))
    assert json.loads((tmp_path / "training.json").read_text())["slices"] == 4
    paths |= {
        "weights": tmp_path / "weights.safetensors",
        "training": tmp_path / "training.json",
    }
    named = {"passes": "0 1", "out": f"{tmp_path}/a {tmp_path}/b", "pictures": tmp_path / "p.npz"}
    score_segmenter.main(words_of(paths, **named))
    columns = read_case_columns(read_headers([tmp_path / "b"])[0])
    both = (columns["reference_voxels"] > 0) & (columns["predicted_voxels"] > 0)
    assert both.any()
    assert np.isfinite(columns["score_hd95_mm"][both]).all()
    levels = {"levels": "1", "seed": 0, "out": tmp_path / "levels"}
    severity_scores.main(words_of(paths, **levels))  # a spectrum of one plane


def test_a_structure_missing_everywhere_is_undefined_and_counted(
    trained: Paths, tmp_path: Path
) -> None:
    masks = np.load(trained["masks"])
    np.save(tmp_path / "masks.npy", np.where(masks == 3, 0, masks))
    named = {"passes": "0", "out": tmp_path / "s.parquet", "pictures": tmp_path / "p.npz"}
    score_segmenter.main(words_of(trained | {"masks": tmp_path / "masks.npy"}, **named))
    headers = read_headers([tmp_path / "s.parquet"])
    columns = read_case_columns(headers[0])
    is_rv = columns["structure"] == "RV"
    assert (columns["reference_voxels"][is_rv] == 0).all()
    empty = is_rv & (columns["predicted_voxels"] == 0)
    assert np.isnan(columns["score_dice"][empty]).all()
    assert (columns["score_dice"][is_rv & ~empty] == 0).all()
    assert np.isnan(columns["score_hd95_mm"][is_rv]).all()
    cells = group_cells("cooperative_training_dice", headers)
    values = {one.metric: one for one in table_values(cells, Resampling(0, 0), 1)}
    assert np.isnan(values["hd95_rv_mm"].value)
    assert values["both_empty"].value + values["one_empty"].value >= 2

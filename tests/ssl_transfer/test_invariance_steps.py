"""Invariance from image files to predictions: views, whitening, scores, two views of a patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.ssl_transfer.backbones import seeded_backbone
from workflow_scripts.checkpoints.certificate import load_checked
from workflow_scripts.datasets.geometry import GEOMETRIES, prepare
from workflow_scripts.metrics.invariance import invariance_scores
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import features, invariance, multi_view, views, whitening
from workflow_scripts.ssl_transfer.batch_statistics import training_features
from workflow_scripts.ssl_transfer.features import pixels_to_input

N_IMAGES = 12
Run = Callable[..., Path]


class Place:
    """A data set of twelve pictures of six patients, left and right, and a ResNet-18."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backbone, self.certificate = seeded_backbone(folder)
        rng = np.random.default_rng(0)
        rows = []
        for i in range(N_IMAGES):
            path = f"{i:02d}.png"
            pixels = rng.integers(0, 256, (60 + i, 70, 3), np.uint8)
            Image.fromarray(pixels).resize((280, 240 + 4 * i)).save(folder / path)
            digest = hashlib.sha256((folder / path).read_bytes()).hexdigest()
            part = "test" if i >= 8 else "train"
            rows.append(
                {"image_id": path, "path": path, "sha256": digest, "patient_id": f"p{i // 2}",
                 "study_id": f"p{i // 2}", "view": ("left", "right")[i % 2], "label": 0,
                 "domain": "here", "split": part, "split_released": part,
                 "order_released": (7 * i) % N_IMAGES, "sex": None, "age_years": np.nan,
                 "race": None}
            )  # fmt: skip
        self.table = pd.DataFrame(rows)
        self.table.to_parquet(folder / "manifest.parquet", index=False)
        card = {
            "dataset": "tiny",
            "classes": ["a"],
            "geometry_released": "squash224",
            "metric": "accuracy",
            "phantom": True,
            "layout": "diabetic_retinopathy",
        }
        (folder / "card.json").write_text(json.dumps(card))
        self.features("short256")
        self.features("short224")

    def features(self, geometry: str) -> None:
        """Write store, index and features of a geometry."""
        images = [
            prepare(Image.open(self.folder / path), GEOMETRIES[geometry])
            for path in self.table["path"]
        ]
        np.save(self.folder / f"{geometry}.npy", np.stack(images))
        index = self.table[["image_id", "sha256"]]
        content = pq.ParquetFile(self._index(index, geometry)).schema_arrow
        assert content.names == ["image_id", "sha256"]
        features.main([
            *self.words("backbone", "certificate", "card"), "--normalisation", "own",
            "--store", str(self.folder / f"{geometry}.npy"),
            "--index", str(self.folder / f"{geometry}.parquet"), "--geometry", geometry,
            "--dataset", "tiny", "--out", str(self.folder / f"{geometry}.npz"),
        ])  # fmt: skip

    def _index(self, index: pd.DataFrame, geometry: str) -> Path:
        import pyarrow as pa

        table = pa.Table.from_pandas(index, preserve_index=False)
        note = {"steadfast": json.dumps({"geometry": geometry})}
        path = self.folder / f"{geometry}.parquet"
        pq.write_table(table.replace_schema_metadata(note), path)
        return path

    def words(self, *names: str) -> list[str]:
        suffix = {"backbone": "safetensors", "manifest": "parquet"}
        return [
            word
            for name in names
            for word in (f"--{name}", str(self.folder / f"{name}.{suffix.get(name, 'json')}"))
        ]

    def views(self, protocol: str, *more: str) -> list[str]:
        files = {name: str(self.folder / f"{protocol}-{name}") for name in ("clean", "views")}
        words = [f"--{name}={path}.npy" for name, path in files.items()]
        words += [f"--index={self.folder}/{protocol}-views.parquet"]
        views.main([
            *self.words("manifest", "card"), *words, "--root", str(self.folder),
            "--store-index", str(self.folder / "short256.parquet"), "--protocol", protocol,
            *("--transform", "h_flip", "--n-images", "4"), *more,
        ])  # fmt: skip
        return words

    def whitening(self, protocol: str, *more: str, geometry: str = "short256") -> Path:
        out = self.folder / f"{protocol}-{geometry}{'-batch' * bool(more)}.npz"
        source = more or ("--features", str(self.folder / f"{geometry}.npz"))
        whitening.main([*source, *self.words("manifest"), "--protocol", protocol,
                        "--out", str(out)])  # fmt: skip
        return out

    def score(self, protocol: str, white: Path, words: list[str], *more: str) -> pd.DataFrame:
        out = self.folder / "predictions.parquet"
        invariance.main([
            *self.words("backbone", "certificate"), *words, "--whitening", str(white),
            "--protocol", protocol, "--out", str(out), *more,
        ])  # fmt: skip
        return pd.read_parquet(out)

    def metadata(self) -> dict[str, Any]:
        schema = pq.read_schema(self.folder / "predictions.parquet")
        content: dict[str, Any] = json.loads(schema.metadata[b"steadfast"])
        return content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("invariance"))


@pytest.mark.parametrize("protocol", ["released", "corrected"])
def test_scores_of_a_flip(place: Place, protocol: str) -> None:
    table = place.score(protocol, place.whitening(protocol), place.views(protocol))
    assert len(table) == 4 * 2
    identity, flipped = table[table.version == 0], table[table.version == 1]
    np.testing.assert_allclose(identity.score_whitened_cosine, 1, atol=1e-4)
    np.testing.assert_allclose(identity.score_cosine, 1, atol=1e-6)
    assert (identity.score_mahalanobis < 0.05 * flipped.score_mahalanobis.min()).all()
    assert (flipped.score_whitened_cosine < 0.999).all()
    about = place.metadata()
    assert about["column"] == "tiny h_flip"
    assert about["data"] == "phantom"
    assert about["diagnostics"]["rank_deficient"] is True
    halves = 1 if protocol == "released" else 2
    assert len(about["diagnostics"]["statistics_images"]) == halves
    assert table.score_images_per_dimension.unique() == [N_IMAGES / halves / 512]
    if protocol == "corrected":
        assert table.patient_id.nunique() == 4


def test_corrected_image_is_judged_by_the_other_half(place: Place) -> None:
    words = place.views("corrected")
    table = place.score("corrected", place.whitening("corrected"), words)
    stored = whitening.read_whitening(place.folder / "corrected-short256.npz")
    with np.load(place.folder / "short256.npz") as content:
        own = dict(zip(content["image_id"].tolist(), content["features"], strict=True))
    network, certificate = load_checked(place.backbone, place.certificate)
    to_input = pixels_to_input(certificate["input"], "own")
    flipped = np.load(place.folder / "corrected-views.npy")[1::2]
    moved = features.extract(network, flipped, to_input, features.Forward())
    for number, name in enumerate(table.image_id[::2]):
        other = stored.whitenings[1 - stored.half[name]]
        expected = invariance_scores(own[name][None], moved[number][None, None], other)
        row = table[(table.draw == number) & (table.version == 1)]
        assert row.score_whitened_cosine.item() == pytest.approx(
            expected.whitened_cosine.item(), abs=1e-4
        )
        partner = next(n for n in own if n != name and int(n[:2]) // 2 == int(name[:2]) // 2)
        assert stored.half[partner] == stored.half[name]  # patients stay together


def test_batch_statistics_are_those_of_the_versions_of_one_image(place: Place) -> None:
    words = place.views("released")
    source = [*place.words("backbone", "certificate"), "--dataset", "tiny"]
    source += ["--store", str(place.folder / "short256.npy")]
    source += ["--store-index", str(place.folder / "short256.parquet")]
    white = place.whitening("released", *source)
    table = place.score("released", white, words, "--batch-norm", "batch")
    network, certificate = load_checked(place.backbone, place.certificate)
    to_input = pixels_to_input(certificate["input"], "own")
    clean = np.load(place.folder / "released-clean.npy")[:1]
    pair = np.load(place.folder / "released-views.npy")[:2]
    z, moved = (training_features(network, [batch], to_input) for batch in (clean, pair))
    stored = whitening.read_whitening(white)
    expected = stored.scores([""], z, moved[None])
    np.testing.assert_allclose(
        table.score_whitened_cosine[:2], expected.whitened_cosine[0], atol=1e-5
    )
    assert table.score_whitened_cosine[0] < 0.9999  # the identity too: its batch is another
    assert not network.training


def test_released_transformed_images_of_a_histogram_checkpoint_get_imagenet_constants() -> None:
    card = {"normalisation": "histogram", "mean": None, "std": None}
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    released = invariance.transformed_input(card, invariance.INVARIANCE["released"])(image)
    corrected = invariance.transformed_input(card, invariance.INVARIANCE["corrected"])(image)
    assert released.min() < 0
    assert corrected.max() == 255


def test_two_eyes_are_scored_from_cached_features(place: Place) -> None:
    out = place.folder / "pairs.parquet"
    for protocol in ("released", "corrected"):
        white = place.whitening(protocol, geometry="short224")
        multi_view.main([
            *place.words("manifest", "card", "certificate"), "--protocol", protocol,
            "--features", str(place.folder / "short224.npz"), "--whitening", str(white),
            "--n-images", "5", "--out", str(out),
        ])  # fmt: skip
        table = pd.read_parquet(out)
        assert len(table) == 5
        assert (table.score_mahalanobis > 0).all()
        assert table.patient_id.nunique() == 5 or protocol == "released"


def batch_source(place: Place, geometry: str) -> list[str]:
    """Return the words that name backbone and pixels instead of features."""
    return [
        *("--backbone", str(place.backbone), "--store", str(place.folder / f"{geometry}.npy")),
        *("--store-index", str(place.folder / f"{geometry}.parquet")),
    ]


def test_pairs_in_training_mode_are_batches_of_one(place: Place) -> None:
    out = place.folder / "pairs.parquet"
    source = batch_source(place, "short224")
    named = [*source, *place.words("certificate"), "--dataset", "tiny"]
    white = place.whitening("released", *named, geometry="short224")
    words = [*place.words("manifest", "card", "certificate"), "--protocol", "released",
             "--whitening", str(white), "--n-images", "3", "--out", str(out)]  # fmt: skip
    multi_view.main([*words, *source])
    table = pd.read_parquet(out)
    about = json.loads(pq.read_schema(out).metadata[b"steadfast"])
    assert about["column"] == "tiny multi_view_batch"
    assert about["options"]["batch_norm"] == "batch"
    network, certificate = load_checked(place.backbone, place.certificate)
    to_input = pixels_to_input(certificate["input"], "own")
    left = int(table.image_id[0][:2])
    images = np.load(place.folder / "short224.npy")
    z, other = (training_features(network, [images[i : i + 1]], to_input)
                for i in (left, left + 1))  # fmt: skip
    expected = whitening.read_whitening(white).scores([""], z, other[None])
    assert table.score_mahalanobis[0] == pytest.approx(expected.mahalanobis.item(), rel=1e-5)
    cached = ["--features", str(place.folder / "short224.npz")]
    with pytest.raises(InputError, match=r"'batch_norm': expected 'eval', found 'batch'"):
        multi_view.main([*words, *cached])
    with pytest.raises(InputError, match="give one source, whole"):
        multi_view.main([*words, *cached, *source])


def test_views_are_drawn_again_alike(place: Place) -> None:
    contents = []
    for _ in range(2):
        place.views("corrected", "--transform", "deform", "--k", "2")
        contents.append((place.folder / "corrected-views.npy").read_bytes())
    assert contents[0] == contents[1]


def test_a_changed_file_is_refused(place: Place, tmp_path: Path) -> None:
    table = place.table.assign(sha256="0" * 64)
    table.to_parquet(tmp_path / "manifest.parquet", index=False)
    with pytest.raises(InputError, match="the file of the manifest"):
        place.views("corrected", "--manifest", str(tmp_path / "manifest.parquet"))


def test_whitening_of_another_protocol_or_geometry_is_refused(place: Place) -> None:
    words = place.views("corrected")
    with pytest.raises(InputError, match="provenance 'protocol': expected 'corrected'"):
        place.score("corrected", place.whitening("released"), words)
    with pytest.raises(InputError, match="provenance 'geometry': expected 'short256'"):
        place.score("corrected", place.whitening("corrected", geometry="short224"), words)
    with pytest.raises(InputError, match=r"'batch_norm': expected 'batch', found 'eval'"):
        place.score("corrected", place.whitening("corrected"), words, "--batch-norm", "batch")


def test_images_are_forwarded_in_the_precision_of_their_statistics(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(place.folder / "short256.npz") as content:
        arrays = dict(content)
    note = json.loads(str(arrays["provenance"])) | {"precision": "bf16"}
    np.savez(tmp_path / "half.npz", **{**arrays, "provenance": np.array(json.dumps(note))})
    white = place.whitening("corrected", "--features", str(tmp_path / "half.npz"))
    words, plain, seen = place.views("corrected"), features.extract, []

    def extract(network: Any, images: Any, to_input: Any, how: features.Forward) -> Any:
        seen.append(how.precision)
        return plain(network, images, to_input, features.Forward())

    monkeypatch.setattr(features, "extract", extract)
    place.score("corrected", white, words)
    place.score("corrected", place.whitening("corrected"), words)
    assert seen == ["bf16", "bf16", "fp32", "fp32"]


def test_batch_statistics_are_computed_in_full_precision_on_a_gpu_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own default
    network, certificate = load_checked(place.backbone, place.certificate)
    to_input = pixels_to_input(certificate["input"], "own")
    training_features(network, [np.zeros((1, 64, 64, 3), np.uint8)], to_input)
    assert not torch.backends.cudnn.allow_tf32


def test_a_whitening_needs_one_source_of_features(place: Place) -> None:
    with pytest.raises(InputError, match="expected --features, or --backbone"):
        whitening.main([*place.words("manifest"), "--protocol", "corrected", "--out", "x.npz"])


def test_released_views_need_a_released_order(place: Place, tmp_path: Path) -> None:
    place.table.drop(columns="order_released").to_parquet(tmp_path / "m.parquet", index=False)
    with pytest.raises(InputError, match="the column 'order_released'"):
        place.views("released", "--manifest", str(tmp_path / "m.parquet"))


def test_layout_without_pairs_is_refused() -> None:
    with pytest.raises(InputError, match="a data set with two views of a patient, found bach"):
        multi_view.view_pairs(pd.DataFrame(), "bach", Path("m.parquet"))

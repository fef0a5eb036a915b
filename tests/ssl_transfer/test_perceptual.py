"""Perceptual distance: from pictures to predictions and to the released code's files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.ssl_transfer.backbones import seeded_backbone
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import perceptual, perceptual_csv
from workflow_scripts.ssl_transfer.lpips import SHAPES

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())


def picture(path: Path, seed: int, size: int = 96) -> Path:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def trunks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three folders with seeded trunks."""
    folders = []
    for name in perceptual.TRUNKS:
        folder = tmp_path_factory.mktemp(name)
        seeded_backbone(folder, SHAPES[name].architecture)
        folders.append(folder)
    return folders


def words(folder: Path, trunks: list[Path], n_checkpoints: int = 2) -> list[str]:
    pictures = [picture(folder / f"r{i}.png", seed=i) for i in range(n_checkpoints)]
    card = {"dataset": "tiny", "classes": [], "geometry_released": "", "metric": "accuracy"}
    (folder / "card.json").write_text(json.dumps({**card, "phantom": False}))
    certificates = []
    for i in range(n_checkpoints):
        content = {"checkpoint": f"c{i}", "architecture": "resnet18", "backbone_sha256": "0"}
        path = folder / f"c{i}.json"
        path.write_text(json.dumps({**content, "phantom": False, "pretrained": True}))
        certificates.append(path)
    lists = {
        "originals": [picture(folder / "original.png", seed=0)],
        "reconstructions": pictures,
        "certificates": certificates,
        "trunks": [one / "backbone.safetensors" for one in trunks],
        "trunk-certificates": [one / "certificate.json" for one in trunks],
        "out": [folder / f"c{i}.parquet" for i in range(n_checkpoints)],
    }
    given = [text for name, paths in lists.items() for text in (f"--{name}", *map(str, paths))]
    return [*given, "--card", str(folder / "card.json"), "--protocol", "released"]


def test_distances_of_a_perfect_and_of_another_picture(trunks: list[Path], tmp_path: Path) -> None:
    perceptual.main(words(tmp_path, trunks))
    perfect, other = (pd.read_parquet(tmp_path / f"c{i}.parquet") for i in range(2))
    names = [f"score_lpips_{name}" for name in perceptual.TRUNKS]
    assert (perfect[[*names, "score_lpips"]] == 0).all(axis=None)
    assert (other[names] > 0).all(axis=None)
    np.testing.assert_allclose(other.score_lpips, other[names].mean(axis=1))
    network, _ = perceptual.load_trunk(
        "squeezenet", trunks[2] / "backbone.safetensors", trunks[2] / "certificate.json"
    )
    pixels = perceptual.read_images([tmp_path / "original.png", tmp_path / "r1.png"])
    with torch.inference_mode():
        expected = network(*(perceptual.as_input(one[None]) for one in pixels))
    np.testing.assert_allclose(other.score_lpips_squeezenet, expected.numpy(), rtol=1e-5)
    out = tmp_path / "squeezenet_distances.csv"
    files = [str(tmp_path / f"c{i}.parquet") for i in range(2)]
    metric = ["--metric", "lpips_squeezenet", "--out", str(out)]
    perceptual_csv.main(["--predictions", *files, *metric])
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[0] == ["model", "tiny"]
    assert [row[0] for row in rows[1:]] == ["c0", "c1"]
    assert float(rows[2][1]) == other.score_lpips_squeezenet.item()


def test_the_released_file_format() -> None:
    golden = GOLDEN["perceptual_csv"]
    nested = {
        dataset: {name: float(value) for name, value in column.items()}
        for dataset, column in golden["nested"].items()
    }
    assert perceptual_csv.distances_csv(nested) == golden["csv_text"]


def test_lists_that_do_not_fit_are_refused(trunks: list[Path], tmp_path: Path) -> None:
    given = words(tmp_path, trunks)
    place = given.index("--certificates")
    with pytest.raises(InputError, match="--reconstructions: expected 2 files, found 1"):
        perceptual.main([*given[: place - 1], *given[place:]])


def test_trunks_in_another_order_are_refused(trunks: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected alexnet\+features, found vgg16\+features"):
        perceptual.main(words(tmp_path, [trunks[1], trunks[0], trunks[2]]))


def test_a_file_that_is_no_image_is_refused(trunks: list[Path], tmp_path: Path) -> None:
    given = words(tmp_path, trunks)
    (tmp_path / "r1.png").write_text("no picture")
    with pytest.raises(InputError, match=r"r1\.png: expected an image"):
        perceptual.main(given)

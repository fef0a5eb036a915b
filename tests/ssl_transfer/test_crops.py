from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.ssl_transfer.training_files import draw_table
from workflow_scripts.datasets import decoded
from workflow_scripts.datasets.decoded import ArchiveImages, DecodedImages, read_places
from workflow_scripts.datasets.store import read_rows
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.crops import centred_box, random_box, training_pixels


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1000))
def test_a_random_part_lies_inside_and_keeps_area_and_ratio(w: int, h: int, seed: int) -> None:
    left, top, right, bottom = random_box(w, h, np.random.default_rng(seed))
    assert 0 <= left < right <= w
    assert 0 <= top < bottom <= h
    if min(w, h) > 100 and max(w, h) / min(w, h) < 1.2:  # rounding does not matter, a draw fits
        share = (right - left) * (bottom - top) / (w * h)
        assert 0.07 < share <= 1.0
        assert 0.70 < (right - left) / (bottom - top) < 1.42


def test_parts_are_distributed_as_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    image, rng, n_draws = Image.new("L", (90, 60)), np.random.default_rng(0), 3000
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
         for _ in range(n_draws)]
    )  # fmt: skip
    boxes = np.array([random_box(90, 60, rng) for _ in range(n_draws)])
    ours = np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1],
                     boxes[:, 2] - boxes[:, 0]], axis=1)  # fmt: skip
    error = np.hypot(theirs.std(0), ours.std(0)) / math.sqrt(n_draws)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.08)


def test_a_very_long_image_gives_its_centre() -> None:
    assert centred_box(300, 100) == (83, 0, 216, 100)
    assert centred_box(100, 300) == (0, 83, 100, 216)


def test_pixels_are_torchvisions_resized_crop(tmp_path: Path) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    draw_table(tmp_path / "images", 3).to_parquet(tmp_path / "manifest.parquet")
    source = ArchiveImages(tmp_path / "images", read_rows(tmp_path / "manifest.parquet"), None)
    for image in range(3):
        found = training_pixels(source, 32, image, np.random.default_rng(image))
        rng = np.random.default_rng(image)
        with Image.open(tmp_path / "images" / f"{image:02d}.png") as file:
            whole = file.convert("RGB")
        left, top, right, bottom = random_box(*whole.size, rng)
        expected = functional.resized_crop(
            whole, top, left, bottom - top, right - left, [32, 32],
            functional.InterpolationMode.BICUBIC,
        )  # fmt: skip
        if rng.random() < 0.5:
            expected = functional.hflip(expected)
        assert np.array_equal(found, np.asarray(expected))


def test_decoded_pixels_give_the_crops_of_the_archive(tmp_path: Path) -> None:
    manifest, root = tmp_path / "manifest.parquet", tmp_path / "images"
    table = draw_table(root, 7)
    (root / "03.png").write_bytes(b"no image")  # its hash is not the manifest's any more
    table.to_parquet(manifest)
    paths = {name: str(tmp_path / f"decoded.{name}") for name in ("bin", "parquet", "csv")}
    written = ["--images", paths["bin"], "--index", paths["parquet"], "--quarantine", paths["csv"]]
    decoded.main(["--manifest", str(manifest), "--root", str(root), *written, "--jobs", "2"])
    places = read_places(Path(paths["parquet"]))
    assert [place.image_id for place in places] == [f"0{i}.png" for i in (0, 1, 2, 4, 5, 6)]
    assert {place.channels for place in places} == {1, 3}
    assert "03.png,03.png,sha256" in Path(paths["csv"]).read_text()
    stored = DecodedImages(Path(paths["bin"]), places)
    rows = read_rows(manifest)
    archive = ArchiveImages(root, [rows[i] for i in (0, 1, 2, 4, 5, 6)], None)
    for image in range(6):
        views = [
            training_pixels(source, 24, image, np.random.default_rng(image))
            for source in (stored, archive)
        ]
        assert np.array_equal(*views)


def test_a_changed_file_is_refused_when_it_is_drawn(tmp_path: Path) -> None:
    draw_table(tmp_path / "images", 2).to_parquet(tmp_path / "manifest.parquet")
    rows = read_rows(tmp_path / "manifest.parquet")
    (tmp_path / "images/00.png").write_bytes(b"cut off")
    source = ArchiveImages(tmp_path / "images", rows, None)
    with pytest.raises(InputError, match=r"00\.png: expected the image of the manifest"):
        source.crop(0, lambda width, height: (0, 0, width, height))


def test_a_data_set_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    draw_table(tmp_path / "images", 2).to_parquet(tmp_path / "manifest.parquet")
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("a.bin", "a.parquet", "a.csv")]
    with pytest.raises(InputError, match="images that decode"):
        decoded.main(["--manifest", str(tmp_path / "manifest.parquet"), "--root",
                      str(tmp_path / "images"), "--images", paths[0], "--index", paths[1],
                      "--quarantine", paths[2]])  # fmt: skip
    assert not (tmp_path / "a.bin").exists()

"""The steps that look at single images: saliency maps and reconstructions, whole and resumed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.ssl_transfer.training_files import TrainingFiles, die, killed, make_files
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds.case_means import table_values
from workflow_scripts.report.predictions import read_headers
from workflow_scripts.ssl_transfer import (
    reconstruction,
    reconstruction_figure,
    saliency,
    saliency_figure,
)
from workflow_scripts.ssl_transfer.occlusion import score_positions
from workflow_scripts.ssl_transfer.training_protocols import RECONSTRUCTION

SMALL = ("--image-size", "36", "--window", "6", "--stride", "2", "--batch-size", "8")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TrainingFiles:
    torch.set_num_threads(1)
    return make_files(tmp_path_factory.mktemp("images"))


def maps_of(files: TrainingFiles, out: Path, *more: str, protocol: str = "corrected") -> np.ndarray:
    words = [*files.images(), "--protocol", protocol, "--state", str(out / "state")]
    words += ["--out", str(out / "predictions.parquet"), "--maps", str(out / "maps.npz")]
    saliency.main([*words, *SMALL, *more])
    with np.load(out / "maps.npz") as content:
        maps: np.ndarray = content["maps"]
        assert content["pixels"].shape == (*maps.shape, 3)
    return maps


def test_map_has_its_diffusion_in_a_table_and_a_picture(
    files: TrainingFiles, tmp_path: Path
) -> None:
    maps = maps_of(files, tmp_path, "--n-images", "2")
    assert maps.shape == (2, 26, 26)
    assert (maps >= 0).all()
    headers = read_headers([tmp_path / "predictions.parquet"])
    (value,) = table_values([tuple(headers)], Resampling(0, 50), jobs=1)
    shares = [float((one > one.astype(np.float64).mean()).mean()) for one in maps]
    assert value.value == pytest.approx(np.mean(shares))
    assert (value.metric, value.n, value.data) == ("attentive_diffusion", 2, "phantom")
    saliency_figure.main(["--maps", str(tmp_path / "maps.npz"), "--out", str(tmp_path / "m.png")])
    assert Image.open(tmp_path / "m.png").size[0] > 200


def test_a_map_that_is_not_defined_is_written_as_such(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = np.full((1, 26, 26), np.nan, np.float32)  # features of norm zero
    monkeypatch.setattr(saliency, "make_maps", lambda *_: undefined)
    maps_of(files, tmp_path)
    headers = read_headers([tmp_path / "predictions.parquet"])
    (value,) = table_values([tuple(headers)], Resampling(0, 50), jobs=1)
    assert np.isnan(value.value)


def test_drawn_images_are_the_same_for_every_checkpoint_and_lie_in_the_test_part(
    files: TrainingFiles, tmp_path: Path
) -> None:
    maps_of(files, tmp_path, "--n-images", "3")
    drawn = pq.read_table(tmp_path / "predictions.parquet")["image_id"].to_pylist()
    assert len(set(drawn)) == 3
    assert {int(name[:2]) % 10 for name in drawn} <= {8, 9}


def test_a_named_image_need_not_be_in_the_manifest(files: TrainingFiles, tmp_path: Path) -> None:
    shown = Path(files.path("images")) / "goldfish.png"
    Image.new("RGB", (40, 50), (200, 80, 20)).save(shown)
    words = ("--image", "goldfish.png", "--image", "04.png")
    assert len(maps_of(files, tmp_path, *words, protocol="released")) == 2
    ids = pq.read_table(tmp_path / "predictions.parquet")["image_id"].to_pylist()
    assert ids == ["goldfish.png", "04.png"]


def test_names_that_fit_no_image_are_refused_together(files: TrainingFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)none\.png.*lost\.png"):
        maps_of(files, tmp_path, "--image", "none.png", "--image", "lost.png")
    with pytest.raises(InputError, match="1 to 6 images"):
        maps_of(files, tmp_path, "--n-images", "7")
    with pytest.raises(InputError, match="above 32 px"):
        maps_of(files, tmp_path, "--bn", "released", "--image-size", "32")
    with pytest.raises(InputError, match="at least 1"):
        maps_of(files, tmp_path, "--batch-size", "0")


def test_killed_between_two_pieces_it_goes_on_and_ends_equal(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = maps_of(files, tmp_path / "whole")
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score_positions(*arguments)

    monkeypatch.setattr(saliency, "score_positions", counted)
    with pytest.raises(KeyboardInterrupt):
        maps_of(files, tmp_path / "parts")
    assert len(list((tmp_path / "parts/state").rglob("*.npy"))) == 1
    resumed = maps_of(files, tmp_path / "parts")
    assert len(calls) == 3  # two pieces: the first was not computed again
    assert np.array_equal(resumed, whole)
    assert not list((tmp_path / "parts/state").rglob("*.npy"))


def test_pieces_of_another_run_are_not_used(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(saliency, "saliency_map", stopped)  # all pieces are kept
        with pytest.raises(KeyboardInterrupt):
            maps_of(files, tmp_path / "state-of-one")
    other = maps_of(files, tmp_path / "state-of-one", "--bn", "released")
    assert np.array_equal(other, maps_of(files, tmp_path / "fresh", "--bn", "released"))


def test_released_batch_normalisation_gives_another_map(
    files: TrainingFiles, tmp_path: Path
) -> None:
    by_mode = [maps_of(files, tmp_path / bn, "--bn", bn) for bn in ("eval", "released")]
    assert not np.allclose(*by_mode)


def reconstructed(files: TrainingFiles, out: Path, *more: str) -> dict[str, Any]:
    words = [*files.images(), "--state", str(out / "state"), "--image-size", "40"]
    words += ["--layer", "layer2", "--save-minutes", "0", "--out", str(out / "losses.json")]
    words += ["--image-out", str(out / "reconstruction.png")]
    words += ["--original-out", str(out / "original.png"), "--n-images", "1"]
    reconstruction.main([*words, "--protocol", "corrected", *more])
    content: dict[str, Any] = json.loads((out / "losses.json").read_text())
    return content


def test_killed_reconstruction_resumes_bit_equal_and_learns(
    files: TrainingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reconstructed(files, tmp_path / "whole", "--iterations", "12")
    step = torch.optim.Adam.step
    calls = []

    def cut_off(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            die()
        return step(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.Adam, "step", cut_off)
        killed(lambda: reconstructed(files, tmp_path / "parts", "--iterations", "12"))
    assert list((tmp_path / "parts/state").glob("state-0000000[34].pt"))
    with monkeypatch.context() as patched:  # killed again, at the very end
        patched.setattr(reconstruction, "write_json", lambda *_: die())
        killed(lambda: reconstructed(files, tmp_path / "parts", "--iterations", "12"))
    assert reconstructed(files, tmp_path / "parts", "--iterations", "12") == whole
    images = [(tmp_path / name / "reconstruction.png").read_bytes() for name in ("whole", "parts")]
    assert images[0] == images[1]
    assert whole["updates"] == 12
    first = reconstructed(files, tmp_path / "first", "--iterations", "1")
    assert whole["loss"] < first["loss"]
    figure = tmp_path / "figure.png"
    (tmp_path / "whole/losses.json").rename(tmp_path / "whole/reconstruction.json")
    losses = str(tmp_path / "whole/reconstruction.json")
    reconstruction_figure.main(["--losses", losses, "--out", str(figure)])
    assert Image.open(figure).size[0] > 200


def test_the_released_loop_does_one_update_more(files: TrainingFiles, tmp_path: Path) -> None:
    found = reconstructed(files, tmp_path, "--iterations", "1", "--protocol", "released")
    assert found["updates"] == 2
    with Image.open(tmp_path / "reconstruction.png") as image:
        assert image.size == (40, 40)


def test_released_reconstruction_of_a_jpeg_goes_through_jpeg() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    released, corrected = (RECONSTRUCTION[name] for name in ("released", "corrected"))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=75)
    lossy = np.asarray(Image.open(stream))
    for path in ("view1_frontal.jpg", "34680_left.JPEG", "data/mha/8622.mha#fifth"):
        found = reconstruction.as_saved(pixels, path, released)
        np.testing.assert_array_equal(found, lossy)
        assert not np.array_equal(found, pixels)
        assert reconstruction.as_saved(pixels, path, corrected) is pixels
    assert reconstruction.as_saved(pixels, "iv001.tif", released) is pixels


def test_features_that_are_not_finite_are_refused() -> None:
    def overflown(images: torch.Tensor) -> torch.Tensor:
        return images / images.new_tensor([1.0, 0.0])[:, None]

    pixels = np.ones((1, 2, 2, 3), np.uint8)
    with pytest.raises(InputError, match=r"features of the image: .* found 6 of 12 not finite"):
        reconstruction.goal_of(overflown, lambda _: lambda x: x, pixels, lambda x: x)


def test_bad_options_of_a_reconstruction_are_refused(files: TrainingFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--iterations"):
        reconstructed(files, tmp_path, "--iterations", "0")
    with pytest.raises(InputError, match="one image"):
        reconstructed(files, tmp_path, "--n-images", "2")

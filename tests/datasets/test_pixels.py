"""Network input made from stored pixels equals ToTensor and Normalize to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.pixels import (
    histogram_levels,
    histogram_normalize,
    network_input,
    open_store,
)
from workflow_scripts.problems import InputError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ssl_transfer.json").read_text())
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
every_level = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
def test_mean_std_equals_torchvision(seed: int, count: int, height: int, width: int) -> None:
    from torchvision import transforms

    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    mean, std = rng.random(3), rng.random(3) + 1e-3
    pipeline = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())]
    )
    expected = np.stack([pipeline(Image.fromarray(image)).numpy() for image in batch])
    found = network_input(batch, "mean_std", mean.tolist(), std.tolist())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_every_level_and_constant_of_the_paper_equals_torchvision() -> None:
    from torchvision import transforms

    for constants in ((MEAN, STD), ((0.502,) * 3, (0.085585,) * 3)):
        pipeline = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*constants)])
        expected = pipeline(Image.fromarray(every_level[0])).numpy()
        np.testing.assert_array_equal(
            network_input(every_level, "mean_std", *constants)[0], expected
        )


def test_none_equals_totensor() -> None:
    from torchvision import transforms

    expected = transforms.ToTensor()(Image.fromarray(every_level[0])).numpy()
    np.testing.assert_array_equal(network_input(every_level, "none")[0], expected)


def test_golden_normalised_pixel() -> None:
    golden = GOLDEN["preprocessing"]
    pixels = np.array(golden["fewshot_small_dataset_uint8"], dtype=np.uint8)[None]
    first = network_input(pixels, "mean_std", MEAN, STD)[0, :, 0, 0]
    np.testing.assert_allclose(first, golden["fewshot_small_normalised_pixel00"], atol=1e-6)


def test_given_output_array_is_filled_and_returned() -> None:
    for normalisation in ("none", "mean_std", "histogram"):
        out = np.full((1, 3, 16, 16), np.nan, dtype=np.float32)
        constants = (MEAN, STD) if normalisation == "mean_std" else ((), ())
        found = network_input(every_level, normalisation, *constants, out=out)
        assert found is out
        np.testing.assert_array_equal(out, network_input(every_level, normalisation, *constants))


@pytest.mark.parametrize("case", GOLDEN["histogram_normalize"])
def test_golden_histogram_normalize(case: dict[str, list[float]]) -> None:
    image = np.array(case["input_chw"], dtype=np.float32)
    found = histogram_normalize(image, case["number_bins"])
    np.testing.assert_allclose(found, case["output_chw"], rtol=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 255), st.integers(1, 256), st.integers(1, 30))
def test_histogram_of_stored_pixels_equals_histogram_of_the_tensor(
    seed: int, low: int, width: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    batch = rng.integers(low, min(256, low + width), (2, side, side, 3), dtype=np.uint8)
    for image, found in zip(batch, network_input(batch, "histogram"), strict=True):
        tensor = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(found, histogram_normalize(tensor))


def plain_histogram_normalize(image: np.ndarray, bins: int) -> np.ndarray:
    counts, edges = np.histogram(image.reshape(-1), bins)
    share = 255 * np.cumsum(counts) / np.sum(counts)
    return np.interp(image.reshape(-1), edges[:-1], share).reshape(image.shape)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 300))
def test_histogram_normalize_equals_numpy_histogram(seed: int, bins: int) -> None:
    image = np.random.default_rng(seed).normal(size=(3, 9, 7)).astype(np.float32)
    expected = plain_histogram_normalize(image, bins)
    np.testing.assert_allclose(histogram_normalize(image, bins), expected, rtol=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_histogram_normalize_is_monotone_and_ends_at_255(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    levels = histogram_levels(image)[np.unique(image)]
    assert np.all(np.diff(levels) >= 0)
    assert levels[-1] == 255
    assert levels[0] > 0


def test_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="'own' is not mean_std, none or histogram"):
        network_input(every_level, "own")  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [(), (0.2, 0.2), (0.2, 0.0, 0.2)])
def test_missing_or_zero_std_is_refused(std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="std: expected three numbers"):
        network_input(every_level, "mean_std", MEAN, std)


def test_store_whose_index_has_another_length_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(tmp_path / "s.npy", np.zeros((2, 4, 4, 3), dtype=np.uint8))
    pq.write_table(pa.table({"image_id": ["a"], "sha256": ["0"]}), tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"uint8 images for the 1 rows.*shape \(2, 4, 4, 3\)"):
        open_store(tmp_path / "s.npy", tmp_path / "s.parquet")

"""Images that look alike across splits are found, all of them, and others are not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets import manifest, near_duplicates, store
from workflow_scripts.datasets.near_duplicates import (
    MOST_BITS,
    difference_hash,
    is_flat,
    nearest_training,
)


def picture(seed: int, side: int = 64) -> NDArray[np.uint8]:
    """A soft random picture, shape (1, side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(20, 200, (8, 8), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    return np.repeat(soft[None, :, :, None], 3, axis=3)


def bits_between(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(difference_hash(a) ^ difference_hash(b)).sum())


@given(st.integers(0, 200))
@settings(max_examples=20)
def test_brightness_and_contrast_do_not_change_the_hash(seed: int) -> None:
    image = picture(seed)
    changed = (image.astype(float) * 0.8 + 30).astype(np.uint8)
    assert bits_between(image, changed) <= MOST_BITS
    assert bits_between(image, picture(seed + 1000)) > 3 * MOST_BITS


@given(st.data())
@settings(max_examples=30)
def test_grouping_finds_exactly_what_comparing_all_pairs_finds(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10_000))
    most = data.draw(st.integers(0, 12))
    rng = np.random.default_rng(seed)
    training = rng.integers(0, 2**63, (30, 4), dtype=np.uint64)
    held_out = training[rng.integers(0, 30, 12)].copy()
    for row in held_out:  # flip some bits
        for at in rng.integers(0, 256, int(rng.integers(0, 16))):
            row[at // 64] ^= np.uint64(1) << np.uint64(at % 64)
    distance = np.bitwise_count(held_out[:, None] ^ training[None]).sum(axis=2)
    found = nearest_training(held_out, training, most)
    expected = [i for i in range(12) if distance[i].min() <= most]
    assert [one.held_out for one in found] == expected
    for one in found:
        assert one.bits == distance[one.held_out].min()
        assert one.training == int(distance[one.held_out].argmin())
        assert one.n_near == int((distance[one.held_out] <= most).sum())


def test_a_hundred_thousand_images_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    training = rng.integers(0, 2**63, (80_000, 4), dtype=np.uint64)
    held_out = rng.integers(0, 2**63, (20_000, 4), dtype=np.uint64)
    held_out[7] = training[99] ^ np.uint64(5)
    start = time.process_time()
    found = nearest_training(held_out, training, MOST_BITS)
    assert [(one.held_out, one.training, one.bits) for one in found] == [(7, 99, 8)]
    assert time.process_time() - start < 30


def test_pictures_without_contrast_are_flat() -> None:
    blank = np.full((1, 32, 32, 3), 7, np.uint8)
    assert is_flat(np.concatenate([blank, picture(0, 32)])).tolist() == [True, False]


def written(folder: Path, same: dict[str, int]) -> list[str]:
    """A user's table whose images show picture `same[name]`, in two splits; the arguments."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    lines = ["file,label,patient,split"]
    for number, (name, seed) in enumerate(same.items()):
        Image.fromarray(picture(seed)[0] + np.uint8(number)).save(raw / f"{name}.png")
        split = "test" if name.startswith("test") else "train"
        lines.append(f"{name}.png,{number % 2},p{number},{split}")
    (raw / "labels.csv").write_text("\n".join(lines) + "\n")
    options: dict[str, Any] = {"layout": "table", "table": "labels.csv", "image": "file"}
    options |= {"label": "label", "patient": "patient", "split": "split"}
    table, card, _ = manifest.build("mine", options, raw, seed=0, jobs=1)
    manifest.write_manifest(folder / "manifest.parquet", table, card, options)
    files = {"store": "s.npy", "index": "s.parquet", "quarantine": "q.csv"}
    words = [word for key, name in files.items() for word in (f"--{key}", str(folder / name))]
    store.main(
        [
            *("--manifest", str(folder / "manifest.parquet"), "--root", str(raw)),
            *("--geometry", "short224", *words),
        ]
    )
    return [
        *("--manifests", str(folder / "manifest.parquet"), "--stores", str(folder / "s.npy")),
        *("--indexes", str(folder / "s.parquet"), "--out", str(folder / "near.csv")),
    ]


def test_the_step_lists_the_held_out_image_that_was_saved_twice(tmp_path: Path) -> None:
    names = {"train_a": 1, "train_b": 2, "test_c": 1, "test_d": 3}
    assert run(near_duplicates.main, written(tmp_path, names)) == 0
    table = pd.read_csv(tmp_path / "near.csv")
    assert table["image"].tolist() == ["mine/test_c.png"]
    assert table["nearest_training_image"].tolist() == ["mine/train_a.png"]
    assert table["training_images_as_near"].tolist() == [1]


def test_a_manifest_without_its_store_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = written(tmp_path, {"train_a": 1, "test_b": 2})
    twice = [*arguments[:1], arguments[1], *arguments[1:]]
    assert run(near_duplicates.main, twice) == 1
    assert "one store and one index a manifest, found 2 manifests" in capsys.readouterr().err

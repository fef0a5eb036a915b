"""Reading, augmenting, training, predicting: on a store of a few made-up images."""

from __future__ import annotations

import json
import math
import os
import signal
from argparse import Namespace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import load_file

from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.layer_ensembles import augmentation, cell, predict, train
from workflow_scripts.layer_ensembles.cases import (
    TrainingSlices,
    read_cases,
    reduced,
    validation_slices,
)
from workflow_scripts.layer_ensembles.protocols import OPTIONS
from workflow_scripts.predictions import METADATA_KEY
from workflow_scripts.problems import InputError
from workflow_scripts.training.sampler import Draw

SETTINGS = {
    "epochs": 2, "batch": 3, "learning_rate": 0.003, "lowest_learning_rate": 1e-6,
    "plateau_factor": 0.5, "plateau_epochs": 100, "early_stopping_epochs": 200, "members": 2,
    "heads": 3, "encoder_width": 4, "decoder_widths": [16, 8, 8, 4, 4], "log_every": 2,
}  # fmt: skip
SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 3


def make_store(
    folder: Path, depth: int = 1, side: int = 64, n_classes: int = 2, blank: str | None = None
) -> Namespace:
    """Write a store of 11 discs, and return the arguments that name its files."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    images, masks, rows = [], [], []
    names = [f"case{i:02d}" for i in range(len(SPLITS))]
    offset = 0
    for name in names:
        for number in range(depth):
            radius = np.hypot(x - rng.uniform(-0.2, 0.2), y)
            mask = np.clip(((0.8 - radius) * n_classes).astype(int), 0, n_classes - 1)
            if name == blank:
                mask[:] = 0
            images.append(mask + rng.normal(0, 0.3, mask.shape))
            masks.append(mask)
            foreground = int((mask > 0).sum())
            rows.append((name, name, None, number, offset, side, side, 9.2, 1.32, 1.32, foreground))
            offset += mask.size
    np.save(folder / "images.npy", np.array(images, dtype=np.float32).ravel())
    np.save(folder / "masks.npy", np.array(masks, dtype=np.uint8).ravel())
    columns = ["image_id", "patient_id", "frame", "slice", "offset", "rows", "columns",
               "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm", "foreground"]  # fmt: skip
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "index.parquet")
    manifest = pd.DataFrame({"image_id": names, "patient_id": names, "split": SPLITS})
    for column, value in (("domain", "d"), ("sex", None), ("race", None), ("age_years", np.nan)):
        manifest[column] = value
    manifest.assign(split_released=SPLITS[::-1][:3] + SPLITS[:8]).to_parquet(
        folder / "manifest.parquet"
    )
    classes = ["background", "LV", "MYO", "RV"][:n_classes]
    card = {"classes": classes, "phantom": True, "dataset": "discs"}
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "leak_free.json").write_text("{}")
    return Namespace(
        images=folder / "images.npy", masks=folder / "masks.npy", index=folder / "index.parquet",
        manifest=folder / "manifest.parquet", card=folder / "card.json",
        leak_free=folder / "leak_free.json", reduction=1,
    )  # fmt: skip


def words(store: Namespace) -> list[str]:
    names = ("images", "masks", "index", "manifest", "card", "leak_free")
    return [w for n in names for w in (f"--{n.replace('_', '-')}", str(getattr(store, n)))]


def run_training(store: Namespace, folder: Path, method: str, protocol: str, **more: str) -> Path:
    out = folder / "networks.safetensors"
    options = {"method": method, "protocol": protocol, "seed": "0", "state": str(folder / "state"),
               "settings": json.dumps(SETTINGS), "out": str(out),
               "history": str(folder / "history.csv"), **more}  # fmt: skip
    arguments = [
        w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", value)
    ]
    train.main([*arguments, *words(store)])
    return out


@pytest.mark.parametrize(
    ("method", "protocol", "depth", "n_classes", "predictions"),
    [
        ("layer_ensembles", "corrected", 3, 4, 10),
        ("layer_ensembles", "released", 1, 2, 10),
        ("deep_ensembles", "paper", 1, 2, 2),
    ],
)
def test_a_run_from_store_to_cell(
    tmp_path: Path, method: str, protocol: str, depth: int, n_classes: int, predictions: int
) -> None:
    store = make_store(tmp_path, depth, n_classes=n_classes)
    networks = run_training(store, tmp_path, method, protocol)
    scores, examples = tmp_path / "scores.parquet", tmp_path / "examples.npz"
    options = OPTIONS[protocol]  # type: ignore[index]
    wanted = sorted({options.combine_heads, options.combine_others, "staple"})
    predict.main(["--networks", str(networks), "--dataset", "discs", "--out", str(scores),
                  "--examples", str(examples), "--combinations", *wanted,
                  *words(store)])  # fmt: skip
    table = pd.read_parquet(scores)
    assert len(table) == 3 * predictions * len(wanted)  # every number of skipped heads, one pass
    assert sorted(table["skip"].unique()) == list(range(predictions))
    assert table["score_nll_corrected"].notna().all()
    last = table[table["combination"] == wanted[0]].groupby("image_id")
    if method == "layer_ensembles":
        assert last["score_agreement_9"].nunique().eq(1).all()  # skipping moves no agreement
    out = tmp_path / "cell.parquet"
    cell.main(["--scores", str(scores), "--table", "layer_ensembles_segmentation", "--skip", "1",
               "--dice-thresholds", '{"all": 0.85}', "--out", str(out)])  # fmt: skip
    chosen = pd.read_parquet(out)
    assert len(chosen) == 3
    assert ("score_aula" in chosen.columns) == (method == "layer_ensembles")
    assert "score_is_bad" in chosen.columns
    with np.load(examples) as kept:
        assert kept["logits_0"].shape[:2] == (predictions, n_classes)
    with pytest.raises(InputError, match="dice_thresholds key LV"):
        cell.main(["--scores", str(scores), "--table", "t", "--skip", "1", "--out", str(out),
                   "--dice-thresholds", '{"all": 0.9, "LV": 0.8}'])  # fmt: skip
    with pytest.raises(InputError, match="skip fewer heads"):
        cell.main(["--scores", str(scores), "--table", "t", "--skip", "11", "--out", str(out)])


def test_a_training_stopped_half_way_ends_with_equal_networks(tmp_path: Path) -> None:
    from workflow_scripts.training.failures import SavedNotFinished

    store = make_store(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = load_file(run_training(store, whole, "deep_ensembles", "corrected"))
    stopped = 0
    while True:
        try:  # a job so short that each attempt ends after a few updates
            out = run_training(store, parts, "deep_ensembles", "corrected", minutes="0.001")
            break
        except SavedNotFinished:
            stopped += 1
    assert stopped >= 1
    second = load_file(out)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()


@pytest.mark.parametrize("name", ["images", "masks"])
def test_a_stopped_training_does_not_go_on_with_other_voxels(tmp_path: Path, name: str) -> None:
    from workflow_scripts.training.failures import SavedNotFinished

    store = make_store(tmp_path)
    with pytest.raises(SavedNotFinished):
        run_training(store, tmp_path, "layer_ensembles", "corrected", minutes="0.001")
    voxels = np.load(tmp_path / f"{name}.npy")
    np.save(tmp_path / f"{name}.npy", voxels[::-1])
    with pytest.raises(InputError, match=f"file.{name}"):
        run_training(store, tmp_path, "layer_ensembles", "corrected")


def train_until_killed(store: Namespace, folder: Path, updates: int) -> None:
    """Train hearts as the paper did, and die without warning; runs in a process of its own."""
    own, done = train._update, 0

    def update(training: train.Training, member: train.Member) -> None:
        nonlocal done
        if done == updates:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        own(training, member)

    train._update = update
    run_training(store, folder, "layer_ensembles", "paper", save_minutes="0")


def test_a_training_killed_in_its_second_epoch_ends_with_equal_networks(tmp_path: Path) -> None:
    store = make_store(tmp_path, depth=2, n_classes=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = load_file(run_training(store, whole, "layer_ensembles", "paper"))
    updates = 5 * len(read_cases(store, OPTIONS["paper"]).ids("train")) // 3 + 2
    child = get_context("spawn").Process(target=train_until_killed, args=(store, parts, updates))
    child.start()
    child.join(300)
    assert child.exitcode == -signal.SIGKILL
    assert any((parts / "state").iterdir())
    second = load_file(run_training(store, parts, "layer_ensembles", "paper"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()


def test_images_and_labels_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    store = make_store(tmp_path, side=48, n_classes=4)
    (tmp_path / "card.json").write_text(json.dumps({"classes": ["background", "mass"]}))
    with pytest.raises(InputError) as caught:
        read_cases(store, OPTIONS["corrected"])
    assert "multiples of 32" in str(caught.value)
    assert "48 x 48 pixels" in str(caught.value)
    assert "mask of image case00: expected labels 0 to 1, found 2, 3" in str(caught.value)


def test_images_without_contrast_and_an_empty_split_are_refused_at_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pixels = np.load(store.images)
    pixels[: 64 * 64] = 1.0
    pixels[64 * 64] = math.nan
    np.save(store.images, pixels)
    manifest = pd.read_parquet(store.manifest).query("split != 'val'")
    manifest.to_parquet(store.manifest)
    with pytest.raises(InputError) as caught:
        read_cases(store, OPTIONS["corrected"])
    words = "expected gray values that differ in the image, found"
    assert f"image case00: {words} 1.0 everywhere" in str(caught.value)
    assert f"image case01: {words} NaN" in str(caught.value)
    assert "expected images to val" in str(caught.value)


def test_the_released_normalisation_refuses_an_empty_mask_by_name(tmp_path: Path) -> None:
    store = make_store(tmp_path, blank="case02")
    read_cases(store, OPTIONS["corrected"])
    with pytest.raises(InputError, match="image case02: expected pixels in the reference mask"):
        read_cases(store, OPTIONS["released"])


def test_a_case_without_foreground_trains_and_is_measured(tmp_path: Path) -> None:
    store = make_store(tmp_path, blank="case10")
    networks = run_training(store, tmp_path, "plain", "corrected")
    scores = tmp_path / "scores.parquet"
    predict.main(["--networks", str(networks), "--dataset", "discs", "--out", str(scores),
                  "--examples", str(tmp_path / "e.npz"), *words(store)])  # fmt: skip
    table = pd.read_parquet(scores).query("image_id == 'case10'")
    undefined = table["score_dsc"].isna()
    # nothing there: right with no segmentation (undefined), wrong with any (0, infinitely far)
    assert ((table["score_dsc"] == 0) | undefined).all()
    assert ((table["score_mhd_infinite"] == 1) | undefined).all()


def test_released_distance_to_nothing_is_half_the_height(tmp_path: Path) -> None:
    from workflow_scripts.layer_ensembles.scores import case_rows

    logits = np.zeros((3, 2, 1, 40, 64), dtype=np.float32)
    logits[:, 0] = 9.0  # background everywhere
    truth = np.zeros((1, 40, 64), dtype=np.uint8)
    truth[0, 10:20, 10:20] = 1
    for name, expected in (("released", 20.0), ("paper", math.nan), ("corrected", math.nan)):
        options = OPTIONS[name]  # type: ignore[index]
        row = next(case_rows(logits, truth, (1, 1, 1), ["mass"], [options.combine_heads], options))
        assert row["mhd"] == pytest.approx(expected, nan_ok=True)
        assert row["mhd_infinite"] == 1  # said in all three
        assert (row["dsc"], row["aula_paper"], row["aula_with_last"]) == (0, 0, 0)


def test_protocol_chooses_the_split(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert read_cases(store, OPTIONS["corrected"]).ids("test") == ["case08", "case09", "case10"]
    assert read_cases(store, OPTIONS["paper"]).ids("test") == ["case00", "case01", "case02"]


def test_training_slices_depend_on_seed_epoch_and_case_alone(tmp_path: Path) -> None:
    cases = read_cases(make_store(tmp_path, depth=3, n_classes=4), OPTIONS["paper"])
    slices = TrainingSlices(cases, 0)
    assert len(slices) == 5 * len(cases.ids("train"))
    first, again = slices[Draw(7, 1)], TrainingSlices(cases, 0)[Draw(7, 1)]
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not slices[Draw(7, 2)][0].equal(first[0])
    image, truth = first
    assert image.shape == (1, 64, 64)
    assert set(np.unique(truth)) <= {0, 1, 2, 3}
    random = validation_slices(cases, 0, 3)
    assert random == validation_slices(cases, 0, 3) != validation_slices(cases, 0, 4)
    everything = read_cases(make_store(tmp_path, depth=3, n_classes=4), OPTIONS["corrected"])
    assert len(validation_slices(everything, 0, 0)) == 3 * len(everything.ids("val"))


def test_reduction_averages_blocks_and_widens_the_spacing() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    small = reduced(Volume(image, image.astype(np.uint8), (9.0, 1.0, 1.0)), 2)
    assert small.image[0, 0, 0] == np.mean([0, 1, 8, 9])
    assert small.mask[0, 0, 0] == 9
    assert small.spacing_mm == (9.0, 2.0, 2.0)


def test_z_norm_and_rescaling_are_golden(golden: dict[str, Any]) -> None:
    case = golden["torchio_0_18_76"]
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    inside = np.zeros((6, 8), dtype=bool)
    inside[np.ix_(case["mask_ones_rows"], case["mask_ones_cols"])] = True
    assert_allclose(augmentation.z_norm(image), case["znorm_all"], rtol=1e-5)
    assert_allclose(augmentation.z_norm(image, inside), case["znorm_mask"], rtol=1e-5, atol=1e-6)
    found = augmentation.rescale(image, inside)
    assert_allclose(found, case["rescale_0_1_percentiles_0_100_mask"], atol=1e-6)


def test_patches_are_exchanged_not_lost_and_stay_in_their_slice() -> None:
    image = np.arange(3 * 24 * 24, dtype=np.float32).reshape(3, 24, 24)
    rng = np.random.default_rng(0)
    swapped = augmentation.swap_patches(image, (1, 10, 10), rng, between_slices=False)
    assert (swapped != image).any()
    within = [set(a.ravel()) == set(b.ravel()) for a, b in zip(image, swapped, strict=True)]
    assert not any(set(a.ravel()) - set(image[i].ravel()) for i, a in enumerate(swapped))
    assert len(within) == 3
    assert (swapped[:, -1] == image[:, -1]).all()  # the last position is never used (torchio)


def test_rotation_keeps_the_centre_and_millimetres() -> None:
    matrix = augmentation.rotation_matrix(np.deg2rad([10.0, -5.0, 15.0]))
    assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    image = np.zeros((5, 33, 33), dtype=np.float32)
    image[2, 16, 16] = 1
    mask, spacing_mm = image.astype(np.uint8), (9.2, 1.32, 1.32)
    turned, _ = augmentation.rotate(image, mask, spacing_mm, np.random.default_rng(0))
    assert np.unravel_index(turned.argmax(), turned.shape) == (2, 16, 16)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_reduced_volume_turns_by_the_same_angle(factor: int) -> None:
    def slope(spacing_mm: tuple[float, float, float], side: int) -> float:
        """Depth in mm for each mm sideways, in the middle of a turned stack of flat slices."""
        depth = 9.2 * (np.arange(9, dtype=np.float32) - 4)
        stack = np.broadcast_to(depth[:, None, None], (9, side, side))
        empty, rng = np.zeros(stack.shape, dtype=np.uint8), np.random.default_rng(1)
        turned, _ = augmentation.rotate(stack, empty, spacing_mm, rng)
        middle = turned[4, side // 4 : -side // 4, side // 4 : -side // 4]
        return float(np.diff(middle, axis=1).mean()) / spacing_mm[2]

    full = slope((9.2, 1.32, 1.32), 32)
    assert abs(full) > 0.05
    assert slope((9.2, 1.32 * factor, 1.32 * factor), 32 // factor) == pytest.approx(full, rel=1e-3)


def test_random_convolution_is_drawn_once_in_the_papers_runs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)
    drawn = augmentation.draw_convolution(np.random.default_rng(3))
    assert_allclose(drawn(image), drawn(image))
    identity = augmentation.RandomConvolution(np.ones((1, 1)), 0.3)
    assert_allclose(identity(image), image, rtol=1e-5)
    cases = read_cases(make_store(tmp_path), OPTIONS["paper"])
    one, other = TrainingSlices(cases, 0).convolution, TrainingSlices(cases, 0).convolution
    assert np.array_equal(one.kernel, other.kernel)


def test_metadata_say_phantom_and_what_was_run(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    store = make_store(tmp_path)
    networks = run_training(store, tmp_path, "plain", "paper")
    scores = tmp_path / "scores.parquet"
    predict.main(["--networks", str(networks), "--dataset", "discs", "--out", str(scores),
                  "--examples", str(tmp_path / "e.npz"), "--corrupt", *words(store)])  # fmt: skip
    about = json.loads(pq.read_schema(scores).metadata[METADATA_KEY.encode()])
    assert (about["data"], about["row"], about["protocol"]) == ("phantom", "plain", "paper")
    assert about["options"]["corrupted"] is True
    (tmp_path / "card.json").write_text(
        json.dumps({"classes": ["background", "LV", "MYO", "RV"], "phantom": True})
    )
    with pytest.raises(InputError, match="expected networks for the 4 classes of the data card"):
        predict.main(["--networks", str(networks), "--dataset", "discs", "--out", str(scores),
                      "--examples", str(tmp_path / "e.npz"), *words(store)])  # fmt: skip
    (tmp_path / "broken.safetensors").write_bytes(b"no network")
    with pytest.raises(InputError, match="train them again"):
        predict.describe(tmp_path / "broken.safetensors")

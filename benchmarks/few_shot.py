"""B1 and B2: few-shot evaluation, each image once against each image in each episode.

    python -m benchmarks.few_shot                                             # B1
    python -m benchmarks.few_shot --architecture resnet50 --n-way 2 --n-episodes 20   # B2

Both sides are one process: start Python, import torch, read image files and a converted
checkpoint, print the accuracy, which must be the same text. (In the workflow the product's steps
fork from a process that has imported torch already.)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.few_shot_product import as_words
from benchmarks.timing import compare
from workflow_scripts.files import sha256_of

CLASSES = ["Normal", "Benign", "InSitu", "Invasive"]  # as BACH
ROOT = Path(__file__).parents[1]
BACKBONE = {"backbone": "backbone.safetensors", "certificate": "certificate.json"}
PRINTED = re.compile(r"Test Acc = .*%")


def draw_images(root: Path, n_images: int, side_px: int) -> pd.DataFrame:
    """Write TIFF images of four kinds of noise and return their manifest.

    The kinds overlap, so that the accuracy is neither chance nor perfect and a wrong episode shows.
    """
    rng = np.random.default_rng(0)
    root.mkdir()
    rows = []
    for i in range(n_images):
        label = i % len(CLASSES)
        coarse = rng.normal(scale=40, size=(side_px // 8, side_px // 8, 3))
        pixels = np.kron(coarse, np.ones((8, 8, 1))) + 128 + rng.normal(scale=8) + 4 * label
        name = f"{i:04d}.tif"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
        sha256 = sha256_of(root / name)
        rows.append({"image_id": name, "path": name, "sha256": sha256, "label": label})
    table = pd.DataFrame(rows)
    order = rng.permutation(n_images)
    return table.assign(
        patient_id=table["image_id"],
        domain="drawn",
        split=np.where(order < 0.8 * n_images, "train", "test"),
        split_released=np.where(order < 0.8 * n_images, "train", "test"),
        order_released=order,
        sex=None,
        age_years=np.nan,
        race=None,
    )


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Make what both sides start from; not timed."""
    table = draw_images(folder / "images", given.n_images, given.side_px)
    table.to_parquet(folder / "manifest.parquet", index=False)
    card = {"dataset": "drawn", "classes": CLASSES, "metric": "accuracy", "phantom": True}
    (folder / "card.json").write_text(json.dumps({**card, "geometry_released": "squash224"}))
    leak = {"leak_free": True, "patients_in_two_splits": 0, "files_in_two_splits": 0}
    (folder / "leak_free.json").write_text(json.dumps({"split": leak, "split_released": leak}))
    options = {"format": "torchvision", "architecture": given.architecture, "weights": "seeded"}
    options |= {"seed": 1, "normalisation": "imagenet"}
    words = as_words(checkpoint="seeded", options=json.dumps(options), **BACKBONE)
    run_module(folder, "workflow_scripts.checkpoints.convert", *words)


def run_module(folder: Path, module: str, *words: str) -> str:
    """Run a module among the files of `folder` and return what it said; a failure is shown."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr}")
    return done.stdout + done.stderr


def printed(said: str) -> str:
    """Return the line with the accuracy."""
    return PRINTED.findall(said)[-1]


def baseline(folder: Path, given: argparse.Namespace) -> str:
    """Return the line that the plain reference prints."""
    files = {"manifest": "manifest.parquet", "root": "images", "backbone": BACKBONE["backbone"]}
    words = as_words(**files, architecture=given.architecture, **run_options(given))
    return printed(run_module(folder, "benchmarks.reference.few_shot", *words))


def product(folder: Path, given: argparse.Namespace) -> str:
    """Return the line that the product prints: store, features and episodes, in one process."""
    words = as_words(**run_options(given))
    return printed(run_module(folder, "benchmarks.few_shot_product", *words))


def run_options(given: argparse.Namespace) -> dict[str, int]:
    """Return what is the same for both sides: the size of the episodes, and the threads."""
    names = ("n_way", "n_support", "n_query", "n_episodes", "threads")
    return {name: getattr(given, name) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run both sides in turn, print one line; fails only where the accuracies differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--architecture", default="resnet18")
    for name, value, meaning in (
        ("n-way", 4, "classes an episode"),
        ("n-support", 20, "labelled images a class"),
        ("n-query", 15, "images to classify a class"),
        ("n-episodes", 40, "episodes; the paper has 600"),
        ("n-images", 160, "images of the data set"),
        ("side-px", 512, "side of an image, a multiple of 8"),
        ("threads", 1, "for both sides"),
        ("repeats", 1, "runs of each side"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given)
        comparison = compare(
            f"few-shot {given.architecture} {given.n_way}-way, {given.n_episodes} episodes",
            lambda: baseline(folder, given),
            lambda: product(folder, given),
            lambda expected, found: expected == found,
            given.repeats,
        )
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    sys.exit(main())

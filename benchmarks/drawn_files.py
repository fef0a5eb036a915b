"""A data set and a checkpoint that both sides of a benchmark start from, and how to run a side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from workflow_scripts.files import sha256_of

ROOT = Path(__file__).parents[1]
BACKBONE = {"backbone": "backbone.safetensors", "certificate": "certificate.json"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A data set of drawn images.

    Attributes:
        n_images: of all classes together, as many of each.
        n_training: of them; the others are the test part.
        side_px: side of an image, a multiple of 8.
        classes: their names.
        suffix: of the files, which gives their format.
    """

    n_images: int
    n_training: int
    side_px: int
    classes: tuple[str, ...]
    suffix: str


def draw_images(root: Path, drawn: Drawn) -> pd.DataFrame:
    """Write images of several kinds of noise and return their manifest.

    The kinds overlap, so that the accuracy is neither chance nor perfect and a wrong draw shows.
    The noise fades towards the border: a network has somewhere to look.
    """
    rng = np.random.default_rng(0)
    fade = np.hanning(drawn.side_px)[:, None, None] * np.hanning(drawn.side_px)[None, :, None]
    root.mkdir()
    rows = []
    for i in range(drawn.n_images):
        label = i % len(drawn.classes)
        coarse = rng.normal(scale=40, size=(drawn.side_px // 8, drawn.side_px // 8, 3))
        noise = 2 * fade * np.kron(coarse, np.ones((8, 8, 1)))
        pixels = noise + 128 + rng.normal(scale=8) + 4 * label
        name = f"{i:04d}{drawn.suffix}"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
        sha256 = sha256_of(root / name)
        rows.append({"image_id": name, "path": name, "sha256": sha256, "label": label})
    table = pd.DataFrame(rows)
    order = rng.permutation(drawn.n_images)
    part = np.where(order < drawn.n_training, "train", "test")
    return table.assign(
        patient_id=table["image_id"],
        domain="drawn",
        split=part,
        split_released=part,
        order_released=order,
        sex=None,
        age_years=np.nan,
        race=None,
    )


def prepare(folder: Path, drawn: Drawn, geometry: str, architecture: str) -> None:
    """Make what both sides start from: images, manifest, card, leak certificate, checkpoint."""
    table = draw_images(folder / "images", drawn)
    table.to_parquet(folder / "manifest.parquet", index=False)
    card = {"dataset": "drawn", "classes": drawn.classes, "metric": "accuracy", "phantom": True}
    (folder / "card.json").write_text(json.dumps({**card, "geometry_released": geometry}))
    leak = {"leak_free": True, "patients_in_two_splits": 0, "files_in_two_splits": 0}
    (folder / "leak_free.json").write_text(json.dumps({"split": leak, "split_released": leak}))
    options = {"format": "torchvision", "architecture": architecture, "weights": "seeded"}
    options |= {"seed": 1, "normalisation": "imagenet"}
    words = as_words(checkpoint="seeded", options=json.dumps(options), **BACKBONE)
    run_module(folder, "workflow_scripts.checkpoints.convert", *words)


def as_words(**options: object) -> list[str]:
    """Return options as a command line has them.

    >>> as_words(n_way=2)
    ['--n-way', '2']
    """
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in options.items())
    return [word for pair in pairs for word in pair]


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

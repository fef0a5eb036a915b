"""A tiny data set of real image files and a tiny checkpoint, for the steps that read pixels."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workflow_scripts.checkpoints import convert
from workflow_scripts.datasets import decoded, store
from workflow_scripts.datasets.geometry import Geometry
from workflow_scripts.files import sha256_of, write_json

SIDE = 48  # pixels of a stored image


@dataclass
class TrainingFiles:
    """Files of one data set and one checkpoint."""

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def checkpoint(self) -> list[str]:
        return ["--backbone", self.path("backbone.safetensors"),
                "--certificate", self.path("certificate.json")]  # fmt: skip

    def task(self, is_decoded: bool = True) -> list[str]:
        """Return the arguments that name a fine-tuning task."""
        words = [*self.checkpoint(), "--manifest", self.path("manifest.parquet")]
        words += ["--card", self.path("card.json"), "--leak-free", self.path("leak_free.json")]
        words += ["--store", self.path("store.npy"), "--index", self.path("store.parquet")]
        words += ["--root", self.path("images")]
        if is_decoded:
            words += ["--pixels", self.path("images.bin")]
            words += ["--pixel-index", self.path("images.parquet")]
        return words

    def images(self) -> list[str]:
        """Return the arguments of the steps that look at single images."""
        return [*self.checkpoint(), "--manifest", self.path("manifest.parquet"),
                "--card", self.path("card.json"), "--root", self.path("images")]  # fmt: skip


def killed(work: Callable[[], object]) -> None:
    """Do `work` in a process of its own, which must end by SIGKILL (see `die`)."""
    child = multiprocessing.get_context("fork").Process(target=work)  # torch is imported already
    child.start()
    child.join(300)
    assert child.exitcode == -signal.SIGKILL


def die() -> None:
    """End this process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def draw_table(root: Path, n_images: int) -> pd.DataFrame:
    """Write images of two classes, gray and colored, of many sizes; return their manifest."""
    rng = np.random.default_rng(3)
    root.mkdir()
    rows = []
    for i in range(n_images):
        height, width = rng.integers(SIDE + 2, 2 * SIDE, 2)
        pixels = rng.integers(0, 200, (height, width, 3)) + 50 * (i % 2)
        image = Image.fromarray(pixels.astype(np.uint8))
        name = f"{i:02d}.png"
        (image if i % 3 else image.convert("L")).save(root / name)
        rows.append({"image_id": name, "path": name, "sha256": sha256_of(root / name)})
    number = np.arange(n_images)
    return pd.DataFrame(rows).assign(
        patient_id=[f"patient {i // 2}" for i in number],
        domain="drawn",
        split=np.where(number % 10 < 8, "train", "test"),
        split_released=np.where(number % 5 < 4, "train", "test"),
        order_released=rng.permutation(n_images),
        label=number % 2,
        sex=None,
        age_years=np.nan,
        race=None,
    )


def make_files(folder: Path, n_images: int = 30, architecture: str = "resnet18") -> TrainingFiles:
    """Write everything that fine-tuning, saliency and reconstruction read."""
    files = TrainingFiles(folder)
    table = draw_table(folder / "images", n_images)
    table.to_parquet(folder / "manifest.parquet", index=False)
    card = {"dataset": "drawn", "classes": ["dark", "bright"], "metric": "accuracy"}
    write_json(folder / "card.json", {**card, "geometry_released": "short224", "phantom": True})
    leak = {"leak_free": True, "patients_in_two_splits": 0, "files_in_two_splits": 0}
    write_json(folder / "leak_free.json", {"split": leak, "split_released": leak})
    geometry = Geometry("shorter", SIDE, "bicubic", SIDE)
    contents = [(folder / "images" / name).read_bytes() for name in table["path"]]
    np.save(folder / "store.npy", [store.decode(one, geometry, None) for one in contents])
    index = {"image_id": list(table["image_id"]), "sha256": list(table["sha256"])}
    pq.write_table(pa.table(index), folder / "store.parquet")
    decoded.main(["--manifest", files.path("manifest.parquet"), "--root", files.path("images"),
                  "--images", files.path("images.bin"), "--index", files.path("images.parquet"),
                  "--quarantine", files.path("quarantine.csv")])  # fmt: skip
    options = {"format": "torchvision", "architecture": architecture, "size_px": SIDE}
    options |= {"weights": "seeded", "seed": 1, "normalisation": "imagenet"}
    convert.main(["--checkpoint", "tiny", "--options", json.dumps(options), *files.checkpoint()])
    return files

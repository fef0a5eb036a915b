"""Tiny hospitals on disk as the steps expect them: manifest, card, store, index, certificate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.crocodile.settings import LossWeights
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.files import sha256_of

SIDE = 64
SPLITS = ["train"] * 10 + ["val"] * 4 + ["test"] * 5
NETWORK = {
    "trunk": "small", "image_size": SIDE, "features": 64, "heads": 2, "feed_forward": 16,
    "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0, "intervention_dropout": 0.0,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "epochs": 2, "global_batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "weight_decay": 1e-4,
    "patience": None, "evaluation_batch": 5,
}  # fmt: skip
WEIGHTS = dict.fromkeys(LossWeights.__slots__, 1.0)


@dataclass(frozen=True)
class Hospital:
    """The files of one data set in a folder of its name."""

    folder: Path

    def path(self, kind: str) -> Path:
        return self.folder / {
            "manifests": "manifest.parquet", "cards": "card.json", "stores": "store.npy",
            "indexes": "store.parquet",
        }[kind]  # fmt: skip

    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.path("manifests"))

    def change(self, table: pd.DataFrame) -> None:
        table.to_parquet(self.path("manifests"))


def write_hospital(folder: Path, number: int, lost: int = 0) -> Hospital:
    """Write one: noise with a bright spot for each finding; `lost` images are not in the store."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(number)
    n = len(SPLITS)
    labels = rng.integers(0, 2, (n, len(NINE)))
    images = rng.integers(0, 90, (n, SIDE, SIDE, 1), dtype=np.uint8)
    for k in range(len(NINE)):
        row, column = 6 + 20 * (k // 3), 6 + 20 * (k % 3)
        images[labels[:, k] == 1, row : row + 8, column : column + 8] += 100
    names = [f"image{i:02d}.png" for i in range(n)]
    table = pd.DataFrame({f"label_{one}": labels[:, k].astype(float) for k, one in enumerate(NINE)})
    table = table.assign(
        image_id=names, patient_id=[f"p{i:02d}" for i in range(n)], split=SPLITS,
        domain=folder.name, sex=["F", "M"] * (n // 2) + ["F"], race=None,
        age_years=rng.integers(20, 90, n).astype(float),
        sha256=[f"{folder.name}-{name}" for name in names],
    )  # fmt: skip
    hospital = Hospital(folder)
    hospital.change(table)
    hospital.path("cards").write_text(json.dumps({"dataset": folder.name, "phantom": True}))
    np.save(hospital.path("stores"), images[: n - lost])
    index = pd.DataFrame({"image_id": names, "sha256": table["sha256"]})[: n - lost]
    index.to_parquet(hospital.path("indexes"))
    return hospital


def write_certificate(path: Path, hospitals: Sequence[Hospital], **changed: Any) -> Path:
    """Write the leak certificate of the hospitals as they are now."""
    hashes = {str(one.folder): sha256_of(one.path("manifests")) for one in hospitals}
    split = {"leak_free": True, "patients_in_two_splits": 0, "files_in_two_splits": 0}
    path.write_text(json.dumps({"split": {**split, "manifests": hashes, **changed}}))
    return path


def write_experiment(folder: Path, lost: int = 0) -> list[Hospital]:
    """Write three sources and a fourth hospital, and their certificate."""
    names = ("north", "south", "east", "abroad")
    found = [write_hospital(folder / name, number, lost) for number, name in enumerate(names)]
    write_certificate(folder / "leak_free.json", found)
    return found


def files_of(hospitals: Sequence[Hospital]) -> list[str]:
    """Return the arguments that name the files of data sets."""
    words = []
    for kind in ("manifests", "cards", "stores", "indexes"):
        words += [f"--{kind}", *(str(one.path(kind)) for one in hospitals)]
    return words


def training_words(
    hospitals: Sequence[Hospital], out: Path, variant: str = "full", protocol: str = "corrected",
    network: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **more: object,
) -> list[str]:  # fmt: skip
    """Return the command line of a training on the sources that writes into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    given: dict[str, object] = {
        "protocol": protocol, "variant": variant, "seed": 3,
        "leak-free": hospitals[0].folder.parent / "leak_free.json",
        "network": json.dumps({**NETWORK, **(network or {})}),
        "training": json.dumps({**TRAINING, **(training or {})}), "weights": json.dumps(WEIGHTS),
        "state": out / "state", "model": out / "model.safetensors",
        "record": out / "training.json", "history": out / "history.csv", **more,
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return [*words, *files_of(hospitals[:3])]


def predicting_words(out: Path, role: str, hospitals: Sequence[Hospital]) -> list[str]:
    """Return the command line that tests the model in `out` on the given data sets."""
    given = {
        "model": out / "model.safetensors", "record": out / "training.json", "role": role,
        "out": out / f"{role}.parquet", "map": out / f"{role}.csv",
    }  # fmt: skip
    return [w for name, value in given.items() for w in (f"--{name}", str(value))] + files_of(
        hospitals
    )

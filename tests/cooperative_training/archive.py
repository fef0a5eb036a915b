"""A tiny cardiac data set for the tests: store, manifest, card and leak certificate on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.datasets.volume_reader import VolumeStore

SPACING_MM = (10.0, 1.5, 1.5)


def mask_of(seed: int, shape: tuple[int, int, int] = (3, 20, 24), empty: int = 0) -> np.ndarray:
    """Return a mask of random blocks; the first `empty` slices have no foreground."""
    mask = np.random.default_rng(seed).integers(0, 4, (shape[0], shape[1] // 4, shape[2] // 4))
    mask = mask.repeat(4, 1).repeat(4, 2)
    mask[:empty] = 0
    return mask


def write_store(folder: Path, volumes: dict[str, np.ndarray]) -> dict[str, Path]:
    """Write a store of masks (D, H, W) by volume `{patient}_{frame}`; image: mask plus noise."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    images, masks, offset = [], [], 0
    for name, mask in volumes.items():
        patient, frame = name.split("_")
        for number, plane in enumerate(mask):
            size = {"rows": plane.shape[0], "columns": plane.shape[1]}
            axes = ("slice", "row", "column")
            spacing = {f"spacing_{a}_mm": mm for a, mm in zip(axes, SPACING_MM, strict=True)}
            ids = {"image_id": name, "patient_id": patient, "frame": frame, "slice": number}
            count = int((plane > 0).sum())
            rows.append({**ids, "offset": offset, **size, **spacing, "foreground": count})
            offset += plane.size
            masks.append(plane.ravel().astype(np.uint8))
            noise = rng.random(plane.size)
            images.append((plane.ravel() / 3 * 0.7 + 0.3 * noise).astype(np.float32))
    names = {"images": "images.npy", "masks": "masks.npy", "index": "index.parquet"}
    paths = {name: folder / file for name, file in names.items()}
    np.save(paths["images"], np.concatenate(images))
    np.save(paths["masks"], np.concatenate(masks))
    pd.DataFrame(rows).to_parquet(paths["index"])
    return paths


def open_store(folder: Path, volumes: dict[str, np.ndarray]) -> VolumeStore:
    """Write a store and open it."""
    return VolumeStore(**write_store(folder, volumes))


def write_archive(folder: Path) -> dict[str, Path]:
    """Write four patients (two train, one validates, one tests) in ED and ES, and the proofs."""
    splits = {"001": "train", "002": "train", "003": "val", "004": "test"}
    names = [f"{patient}_{frame}" for patient in splits for frame in ("ED", "ES")]
    paths = write_store(folder, {name: mask_of(n, empty=1) for n, name in enumerate(names)})
    patients = [name[:3] for name in names]
    unknown = [None] * len(names)
    texts = dict.fromkeys(("study_id", "view", "sex", "race", "center"), unknown)
    manifest = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": patients,
            "sha256": [f"hash of {name}" for name in names],
            "domain": "acdc",
            "vendor": "Siemens",
            "frame": [name[4:] for name in names],
            "split": [splits[patient] for patient in patients],
            "split_released_10_cv_0": [splits[patient] for patient in patients],
            "age_years": np.nan,
            **texts,
        }
    )
    paths |= {name: folder / name for name in ("manifest.parquet", "leak_free.json", "card.json")}
    about = {"dataset": "acdc", "patients": "acdc", "patients_known": True, "phantom": True}
    table = pa.Table.from_pandas(manifest, preserve_index=False)
    pq.write_table(
        table.replace_schema_metadata({"steadfast": json.dumps(about)}), paths["manifest.parquet"]
    )
    proof = {"leak_free": True, "patients_in_two_splits": 0, "files_in_two_splits": 0}
    proof["examples"] = {"patients": [], "files": []}  # type: ignore[assignment]
    proofs = {"split": proof, "split_released_10_cv_0": proof}
    paths["leak_free.json"].write_text(json.dumps(proofs))
    card = {"dataset": "acdc", "phantom": True, "classes": ["background", "LV", "MYO", "RV"]}
    paths["card.json"].write_text(json.dumps(card))
    return paths


def training_words(paths: dict[str, Path], out: Path, method: str, **words: object) -> list[str]:
    """Return the command line of a tiny training that writes into `out`."""
    given: dict[str, object] = {
        **{name: paths[name] for name in ("images", "masks", "index")},
        "manifest": paths["manifest.parquet"],
        "leak-free": paths["leak_free.json"],
        **{"dataset": "acdc", "method": method, "protocol": "corrected", "list": "10_cv_0"},
        **{"seed": 40, "epochs": 2, "batch-size": 4, "width": 2, "window": 32, "crop": 16},
        **{"weights": out / "weights.safetensors", "out": out / "training.json"},
        **{"state": out / "state", "history": out / "history.csv"},
        **words,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]

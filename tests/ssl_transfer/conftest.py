from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.ssl_transfer.cases import CasePaths, Cases, read_cases
from workflow_scripts.ssl_transfer.protocols import FewShotOptions, LinearOptions, Protocol


@dataclass
class EvaluationFiles:
    """A small data set and its features, changed by a test and then written."""

    folder: Path
    table: pd.DataFrame
    features: np.ndarray
    image_id: np.ndarray
    card: dict[str, Any]
    certificate: dict[str, Any]
    leak_free: dict[str, Any]
    provenance: dict[str, Any]

    def arguments(self, protocol: str, *more: str) -> list[str]:
        """Write all files and return a step's command line."""
        names = {"features": "npz", "manifest": "parquet"}
        names |= dict.fromkeys(("card", "certificate", "leak-free"), "json")
        paths = {name: self.folder / f"{name}.{suffix}" for name, suffix in names.items()}
        np.savez(
            paths["features"],
            features=self.features,
            image_id=self.image_id,
            provenance=json.dumps(self.provenance),
        )
        self.table.to_parquet(paths["manifest"], index=False)
        paths["card"].write_text(json.dumps(self.card))
        paths["certificate"].write_text(json.dumps(self.certificate))
        paths["leak-free"].write_text(json.dumps(self.leak_free))
        given = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
        out = self.folder / f"{protocol}.parquet"
        return [*given, "--protocol", protocol, "--out", str(out), *more]

    def cases(self, protocol: Protocol, options: FewShotOptions | LinearOptions) -> Cases:
        """Write all files and read them as a step does."""
        self.arguments(protocol)
        names = ("features.npz", "manifest.parquet", "card.json", "certificate.json")
        paths = CasePaths(*(self.folder / name for name in (*names, "leak-free.json")))
        return read_cases(paths, options)


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[..., EvaluationFiles]:
    """Return a maker of data sets: two images a patient, separable classes, a released order."""

    def make(n_images: int = 60, n_classes: int = 2) -> EvaluationFiles:
        rng = np.random.default_rng(1)
        ids = np.array([f"image_{i:03d}" for i in range(n_images)])
        labels = np.arange(n_images) // 2 % n_classes
        patients = np.arange(n_images) // 2
        part = np.where(patients % 5 < 3, "train", np.where(patients % 5 == 3, "val", "test"))
        order = rng.permutation(n_images)
        table = pd.DataFrame(
            {
                "image_id": ids,
                "path": ids,
                "patient_id": [f"patient_{p:03d}" for p in patients],
                "domain": "somewhere",
                "split": part,
                "split_released": np.where(order < 0.8 * n_images, "train", "test"),
                "order_released": order,
                "label": labels,
                "sex": "F",
                "age_years": np.nan,
                "race": None,
            }
        )
        features = rng.normal(size=(n_images, 6)).astype(np.float32)
        features[np.arange(n_images), labels] += 4
        keep = {"patients_in_two_splits": 0, "files_in_two_splits": 0, "examples": []}
        names = {"dataset": "tiny", "checkpoint": "seeded", "architecture": "resnet18"}
        weights = {"backbone_sha256": "ab" * 32}
        card = {"dataset": "tiny", "classes": [f"class {i}" for i in range(n_classes)]}
        card |= {"geometry_released": "squash224", "metric": "accuracy", "phantom": False}
        return EvaluationFiles(
            folder=tmp_path,
            table=table,
            features=features,
            image_id=ids,
            card=card,
            certificate={**names, **weights, "pretrained": True, "phantom": False},
            leak_free={
                "split": {"leak_free": True, **keep},
                "split_released": {"leak_free": False, **keep, "patients_in_two_splits": 9},
            },
            provenance={**names, **weights, "geometry": "short224", "normalisation": "own"},
        )

    return make

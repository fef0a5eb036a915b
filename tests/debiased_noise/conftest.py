"""A small data set, a small foundation model and all files that the steps read, made once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from workflow_scripts.checkpoints import certificate, convert
from workflow_scripts.datasets import leaks
from workflow_scripts.debiased_noise import attribute_classifier, embed
from workflow_scripts.debiased_noise.service import EmbeddingServer, ServedModel, ServiceLimits

SIDE = 32
N_IMAGES = {"train": 48, "val": 8, "test": 24}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Files:
    """Paths of the tiny world; `cohort` and `model` are words of a command line."""

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def cohort(self) -> list[str]:
        names = {"manifest": "manifest.parquet", "card": "card.json", "leak-free": "leak_free.json"}
        return [word for key, name in names.items() for word in (f"--{key}", self.path(name))]

    @property
    def images(self) -> list[str]:
        return ["--store", self.path("store.npy"), "--index", self.path("store.parquet")]

    @property
    def model(self) -> list[str]:
        return [
            *("--backbone", self.path("backbone.safetensors")),
            *("--certificate", self.path("certificate.json")),
        ]

    @property
    def embeddings(self) -> list[str]:
        return ["--embeddings", self.path("embeddings.npz")]

    @property
    def classifier(self) -> str:
        return self.path("attribute/attribute_classifier.safetensors")

    @property
    def edit_inputs(self) -> list[str]:
        """Return what white and black box read besides the model."""
        return [
            *self.images, *self.cohort, "--classifier", self.classifier,
            "--images-per-batch", "16", "--lambda-reg", "0.001",
        ]  # fmt: skip

    def card(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(Path(self.path("certificate.json")).read_text())
        return content


def write_dataset(folder: Path) -> None:
    """Write images in which sex shows as a bright top and disease as a bright corner."""
    rng = np.random.default_rng(0)
    rows, pictures = [], []
    for split, count in N_IMAGES.items():
        for number in range(count):
            label, male = number % 2, (number // 2) % 2
            if split == "train":  # most of the training images are aligned
                male = label if number % 8 < 2 else 1 - label
            picture = rng.integers(60, 120, (SIDE, SIDE))
            picture[2:8, 10:22] += 90 * male
            picture[22:30, 2:10] += 100 * label
            pictures.append(np.repeat(picture[..., None].astype(np.uint8), 3, axis=2))
            name = f"{split}_{number:03d}"
            rows.append(
                {
                    "image_id": name, "path": name, "sha256": f"{name:0<64}", "patient_id": name,
                    "study_id": name, "view": "PA", "domain": "tiny", "split": split,
                    "label": label, "sex": "M" if male else "F",
                    "age_years": 40.0 + number, "race": None,
                }
            )  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    note = {"dataset": "tiny", "patients": "tiny", "patients_known": True, "phantom": True}
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    table = table.replace_schema_metadata({"steadfast": json.dumps(note)})
    pq.write_table(table, folder / "manifest.parquet")
    card = {"dataset": "tiny", "classes": ["No Finding", "Edema"], "phantom": True}
    (folder / "card.json").write_text(json.dumps(card))
    leaks.main(["--manifests", str(folder / "manifest.parquet"),
                "--out", str(folder / "leak_free.json")])  # fmt: skip
    np.save(folder / "store.npy", np.stack(pictures))
    columns = ["image_id", "sha256"]
    pd.DataFrame(rows)[columns].to_parquet(folder / "store.parquet", index=False)


def write_model(folder: Path) -> None:
    """Write a seeded transformer with its certificate."""
    options = {
        "format": "timm", "architecture": "test_vit+pooled", "weights": "seeded", "seed": 3,
        "size_px": SIDE, "normalisation": "imagenet", "pretraining": "none", "licence": "none",
    }  # fmt: skip
    convert.main(
        [
            *("--checkpoint", "tiny_vit", "--options", json.dumps(options)),
            *("--backbone", str(folder / "backbone.safetensors")),
            *("--certificate", str(folder / "certificate.json")),
        ]
    )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return the tiny world up to the attribute classifier."""
    world = Files(tmp_path_factory.mktemp("world"))
    write_dataset(world.folder)
    write_model(world.folder)
    out = world.path("embeddings.npz")
    embed.main([*world.model, *world.images, "--card", world.path("card.json"), "--out", out])
    attribute_classifier.main(
        [
            *world.embeddings, *world.cohort, "--protocol", "corrected", "--epochs", "40",
            "--lr", "0.02", "--images-per-batch", "16", "--state", world.path("state/attribute"),
            "--out", world.classifier,
        ]
    )  # fmt: skip
    return world


@pytest.fixture(scope="session")
def served(files: Files) -> ServedModel:
    """Return the tiny model as a service has it."""
    from workflow_scripts.debiased_noise.foundation import FoundationModel

    network, content = certificate.load_checked(
        Path(files.path("backbone.safetensors")), Path(files.path("certificate.json"))
    )
    model = FoundationModel(network, content["input"])
    names = ("checkpoint", "architecture", "backbone_sha256", "phantom")
    about = {name: content[name] for name in names}
    return ServedModel(model, SIDE, content["feature_dim"], about)


@pytest.fixture
def server(served: ServedModel) -> Iterator[EmbeddingServer]:
    """Return a running service without a token, gone after the test."""
    limits = ServiceLimits(max_images=16)
    with running(EmbeddingServer(("127.0.0.1", 0), served, limits, None)) as one:
        yield one


@contextmanager
def running(server: EmbeddingServer) -> Iterator[EmbeddingServer]:
    """Serve in a thread for the length of the block."""
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def url_of(server: EmbeddingServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"

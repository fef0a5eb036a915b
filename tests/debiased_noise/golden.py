"""The golden vectors of the released code, as tensors and arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.debiased_noise.objective import Head

GOLDEN: dict[str, Any] = json.loads(Path("tests/golden/dne.json").read_text(encoding="utf-8"))
TINY = GOLDEN["shared_tiny_sa"]


class FlatModel:
    """The foundation model of `shared_tiny_sa`: the flattened image, three channels of 2 x 2."""

    input_size = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.forward(images)


def tiny_head() -> Head:
    return Head(torch.tensor(TINY["W"]), torch.tensor(TINY["b"]))


def tiny_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return images (3, 3, 2, 2) and attribute (3,) of each of the three batches."""
    return [
        (torch.tensor(images), torch.tensor(codes).flatten())
        for images, codes in zip(TINY["images"], TINY["sa"], strict=True)
    ]

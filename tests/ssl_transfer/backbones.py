"""A small backbone for tests of steps that forward images."""

from __future__ import annotations

import json
from pathlib import Path

from workflow_scripts.checkpoints import convert


def seeded_backbone(
    folder: Path, architecture: str = "resnet18", seed: int = 1
) -> tuple[Path, Path]:
    """Write a network with seeded weights and its certificate; return both paths."""
    backbone, certificate = folder / "backbone.safetensors", folder / "certificate.json"
    options = {"format": "torchvision", "architecture": architecture, "weights": "seeded"}
    options |= {"seed": seed, "normalisation": "imagenet"}
    convert.main([
        "--checkpoint", "seeded", "--options", json.dumps(options), "--backbone", str(backbone),
        "--certificate", str(certificate),
    ])  # fmt: skip
    return backbone, certificate

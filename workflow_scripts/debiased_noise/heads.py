"""Linear heads on disk: `head.weight`, `head.bias`, and a card of what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.files import read_json, sha256_of, write_json, write_safetensors
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from torch import nn

    from workflow_scripts.debiased_noise.objective import Head

WEIGHT, BIAS = "head.weight", "head.bias"
AGAIN = "train the head again"


def write_head(path: Path, head: nn.Linear, card: Mapping[str, Any]) -> None:
    """Write a head, and its card after it."""
    from safetensors.torch import save

    tensors = {WEIGHT: head.weight, BIAS: head.bias}
    content = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    write_safetensors(path, save(content))
    write_json(path.with_suffix(".json"), {**card, "sha256": sha256_of(path)})


def read_head(path: Path, device: str = "cpu") -> tuple[Head, dict[str, Any]]:
    """Return a head without gradient, and its card.

    Raises:
        InputError: a missing file, other tensors, or a card of another file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from workflow_scripts.debiased_noise.objective import Head

    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.is_file():
            raise refuse(str(file), "a file", "none", AGAIN)
    try:
        tensors = load_file(str(path), device=device)
    except SafetensorError as error:
        raise refuse(str(path), "a safetensors file", str(error), AGAIN) from error
    if set(tensors) != {WEIGHT, BIAS}:
        raise refuse(str(path), f"{WEIGHT} and {BIAS}", ", ".join(tensors) or "none", AGAIN)
    card = read_json(card_path)
    if card.get("sha256") != sha256_of(path):
        raise refuse(str(card_path), f"the card of {path}", "the card of another file", AGAIN)
    return Head(tensors[WEIGHT], tensors[BIAS]), card


def require_same_model(path: Path, card: Mapping[str, Any], backbone_sha256: str) -> None:
    """Refuse a head that was trained on another foundation model's embeddings."""
    if card.get("backbone_sha256") != backbone_sha256:
        found = f"one of {card.get('checkpoint')} ({card.get('backbone_sha256')})"
        raise refuse(str(path), f"a head of the model {backbone_sha256}", found, AGAIN)


def margins(head: Head, embeddings: np.ndarray) -> np.ndarray:
    """Return logit 1 minus logit 0 of each embedding, (N, F) -> (N,), float64."""
    import torch

    logits = head.logits(torch.from_numpy(embeddings)).double().numpy()
    found: np.ndarray = logits[:, 1] - logits[:, 0]
    return found

"""The noise edit: one additive image for all images and channels, and its files.

Ours is a safetensors file with the single tensor `noise` and a JSON card beside it. The released
code saves a torch state dict with the key `noise` (or `module.noise`), which
`python -m workflow_scripts.debiased_noise.edit_file` reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import read_json, sha256_of, write_json, write_safetensors
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from torch import Tensor

KEY = "noise"
MODULE_PREFIX = "module."  # of torch's data-parallel wrapper
TRAIN_AGAIN = "train the edit again, or give the file that the training wrote"
Noise = NDArray[np.float32]


def edited(images: Tensor, noise: Tensor) -> Tensor:
    """Return `images` with the edit added to every image and channel; values are not clamped.

    Args:
        images: shape (N, C, H, W), pixels in [0, 1] before any normalisation of the network.
        noise: shape (H, W), same scale.

    Source: debiased noise spec section 6 (golden `A_dne_layer`).
    """
    return images + noise  # broadcast over N and C


def norms(noise: Noise) -> dict[str, float]:
    """Return size figures of an edit, in pixel units (1 is the range of an image)."""
    flat = noise.astype(np.float64).ravel()
    return {
        "l2_norm": float(math.sqrt(flat @ flat)),
        "largest": float(np.abs(flat).max(initial=0.0)),
        "mean": float(flat.mean()),  # the "magnitude" that the released code prints
    }


def gaussian_edit(shape: tuple[int, int], l2_norm: float, rng: np.random.Generator) -> Noise:
    """Return Gaussian noise scaled to a given norm: the control of a learned edit.

    Args:
        shape: rows and columns.
        l2_norm: of the result, pixel units; 0 gives zeros.
        rng: its randomness.
    """
    drawn = rng.standard_normal(shape)
    return (drawn * (l2_norm / np.linalg.norm(drawn))).astype(np.float32)


def require_noise(where: str, noise: NDArray[Any], size_px: int | None) -> Noise:
    """Return the array if it is an edit: float32, square, finite, of the wanted size."""
    found = f"{noise.dtype} of shape {noise.shape}"
    side = size_px or (noise.shape[0] if noise.ndim == 2 else 0)
    expected = f"float32 of shape ({size_px or 'n'}, {size_px or 'n'})"
    if noise.dtype != np.float32 or noise.shape != (side, side) or side == 0:
        raise refuse(where, expected, found, "take an edit made for images of this size")
    bad = int((~np.isfinite(noise)).sum())
    if bad:
        raise refuse(where, "finite values", f"{bad} of {noise.size} not finite", TRAIN_AGAIN)
    return noise


def write_edit(path: Path, noise: Noise, card: Mapping[str, Any]) -> None:
    """Write edit and card; the card gets size, norms and hash, and is written last."""
    from safetensors.numpy import save

    require_noise(str(path), noise, None)
    write_safetensors(path, save({KEY: np.ascontiguousarray(noise)}))
    about = {"size_px": int(noise.shape[0]), **norms(noise), "sha256": sha256_of(path)}
    write_json(card_path(path), {**card, **about})


def card_path(path: Path) -> Path:
    """Return where the card of an edit stands."""
    return path.with_suffix(".json")


def read_edit(path: Path, size_px: int | None = None) -> tuple[Noise, dict[str, Any]]:
    """Return an edit and its card.

    Args:
        path: `noise_edit.safetensors`, with its card beside it.
        size_px: side of the images it is for; None takes any.

    Raises:
        InputError: a missing file or card, other tensors, another shape, values that are not
            finite, or a card of another file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for file in (path, card_path(path)):
        if not file.is_file():
            raise refuse(str(file), "a file", "none", TRAIN_AGAIN)
    try:
        tensors = load_file(str(path))
    except SafetensorError as error:
        raise refuse(str(path), "a safetensors file", str(error), TRAIN_AGAIN) from error
    if list(tensors) != [KEY]:
        raise refuse(str(path), f"the tensor {KEY!r}", ", ".join(tensors) or "none", TRAIN_AGAIN)
    card = read_json(card_path(path))
    digest = sha256_of(path)
    if card.get("sha256") != digest:
        found = f"the card of {card.get('sha256')}"
        raise refuse(str(card_path(path)), f"the card of sha256 {digest}", found, TRAIN_AGAIN)
    return require_noise(str(path), tensors[KEY], size_px), card

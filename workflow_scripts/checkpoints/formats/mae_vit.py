"""A masked autoencoder's file, `vit-b_CXR_0.5M_mae.pth`: the whole training state of a ViT.

`model` holds encoder and decoder; the encoder carries timm's names and ends in `norm`. Decoder,
optimiser and options are ignored (DNE spec section 4.3). Where the network's grid of patches is
not the file's, the position embedding is resized (section 4.4).

Two read-outs (section 4.1): `vit_base_patch16_224` takes the class token after `norm`;
`vit_base_patch16_224+pooled` the mean of the patch tokens after a fresh `fc_norm`.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from workflow_scripts.checkpoints.backbone import expected_tensors
from workflow_scripts.checkpoints.conversion import ConvertedTensors, mapped, take_tensors
from workflow_scripts.checkpoints.safe_pickle import inert_baggage
from workflow_scripts.checkpoints.source_file import (
    read_torch,
    state_dict_of,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import backbone_of, phantom_tensors
from workflow_scripts.problems import refuse

LIBRARY = "timm"
DECODER = ("decoder_", "mask_token")
HEADS = ("head.",)
POSITIONS = "pos_embed"
RESIZED = "grid resized from {} to {} (bicubic), class token kept"
DECODER_WIDTH, DECODER_BLOCKS = 512, 8  # of the published model


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the encoder's tensors, positions resized to the architecture's grid."""
    with inert_baggage():
        content = read_torch(path)
    wrapper = "model" if isinstance(content, dict) and "model" in content else None
    source = state_dict_of(path, content, wrapper=wrapper)
    taken = take_tensors(path, source, heads=(*DECODER, *HEADS))
    wanted = expected_tensors(LIBRARY, architecture).get(POSITIONS)
    found = taken.tensors.get(POSITIONS)
    if wanted is None or found is None or wanted.shape == found.shape:
        return taken  # what is missing is named by the proof of completeness
    n_tokens = wanted.shape[1]
    resized = resize_positions(found, n_tokens)
    words = RESIZED.format(found.shape[1] - 1, n_tokens - 1)
    line = mapped(POSITIONS, POSITIONS, resized, words)
    lines = tuple(line if one.target == POSITIONS else one for one in taken.key_map)
    return replace(taken, tensors=taken.tensors | {POSITIONS: resized}, key_map=lines)


def resize_positions(positions: Tensor, n_tokens: int) -> Tensor:
    """Return the position embedding of another square grid of patches.

    Args:
        positions: shape (1, 1 + side * side, D): class token, then the grid by rows.
        n_tokens: wanted second size, class token included.

    Returns:
        Shape (1, n_tokens, D): the class token unchanged, the grid resized bicubically.

    Raises:
        InputError: if either grid is not square.

    Source: DNE spec section 4.4, golden `I_pos_embed_2x2_to_3x3`.
    """
    sides = [math.isqrt(count - 1) for count in (positions.shape[1], n_tokens)]
    if [side * side + 1 for side in sides] != [positions.shape[1], n_tokens]:
        found = f"{positions.shape[1]} and {n_tokens} tokens"
        raise refuse(POSITIONS, "two square grids and a class token", found, "check 'architecture'")
    old, new = sides
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    flat = grid.permute(0, 2, 3, 1).reshape(1, new * new, -1)
    return torch.cat([positions[:, :1], flat], dim=1).contiguous()


def decoder_shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the decoder that belongs to an encoder."""
    width = tensors["cls_token"].shape[-1]
    n_tokens = tensors[POSITIONS].shape[1]
    _, channels, side, _ = tensors["patch_embed.proj.weight"].shape
    d = DECODER_WIDTH
    linear = {"decoder_embed": (width, d), "decoder_pred": (d, side * side * channels)}
    norms = ["decoder_norm"]
    for block in range(DECODER_BLOCKS):
        here = f"decoder_blocks.{block}"
        sizes = {"attn.qkv": (d, 3 * d), "attn.proj": (d, d)}
        sizes |= {"mlp.fc1": (d, 4 * d), "mlp.fc2": (4 * d, d)}
        linear |= {f"{here}.{name}": size for name, size in sizes.items()}
        norms += [f"{here}.norm1", f"{here}.norm2"]
    shapes: dict[str, tuple[int, ...]] = {"mask_token": (1, 1, d)}
    shapes["decoder_pos_embed"] = (1, n_tokens, d)
    for name, (inputs, outputs) in linear.items():
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    for name in norms:
        shapes |= {f"{name}.weight": (d,), f"{name}.bias": (d,)}
    return shapes


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the training state: encoder, decoder (zeros), optimiser, scaler, options."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    encoder, _ = backbone_of(tensors, LIBRARY, architecture)
    decoder = {name: torch.zeros(shape) for name, shape in decoder_shapes(encoder).items()}
    content = {
        "model": encoder | decoder,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1.5e-4, "params": []}]},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit_base_patch16", mask_ratio=0.9, epochs=800),
    }
    write_phantom_torch(path, content)

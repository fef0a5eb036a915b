"""Embed each image of a store once, with or without a noise edit.

    python -m workflow_scripts.debiased_noise.embed --backbone backbone.safetensors \
        --certificate certificate.json --store exact224.npy --index exact224.parquet \
        --card card.json [--edit noise_edit.safetensors] --out embeddings.npz

Images are deterministic, so training a head for 50 epochs then reads this file instead of
forwarding every image 50 times.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.access import Access, add_access_arguments, open_box
from workflow_scripts.debiased_noise.embeddings import Floats, write_embeddings
from workflow_scripts.debiased_noise.queries import BudgetExhausted, QueryCount, ServiceUnavailable
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.problems import refuse
from workflow_scripts.progress import progress
from workflow_scripts.speed import exact_arithmetic, set_threads, tune_allocator

if TYPE_CHECKING:
    from workflow_scripts.datasets.pixels import Store

log = logging.getLogger(__name__)
TOLD = ("method", "attribute", "checkpoint", "dataset", "l2_norm", "largest", "image_queries")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_access_arguments(parser)
    parser.add_argument("--store", type=Path, required=True, help="images, .npy")
    parser.add_argument("--index", type=Path, required=True, help="rows of the store, .parquet")
    parser.add_argument("--card", type=Path, required=True, help="card of the data set, .json")
    parser.add_argument("--edit", type=Path, help="noise edit added to every image")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU")
    parser.add_argument("--out", type=Path, required=True, help="embeddings to write, .npz")
    return parser


def require_size(store: Store, size_px: int, where: Path) -> None:
    """Refuse an empty store, or images of another size than the model takes."""
    found = store.images.shape[1:3]
    if len(store.images) == 0 or found != (size_px, size_px):
        raise refuse(
            str(where),
            f"images of {size_px} x {size_px} px, as the foundation model takes them",
            f"{len(store.images)} images of {found[0]} x {found[1]} px",
            "choose the geometry of that size",
        )


def embed_store(access: Access, store: Store, noise: Floats | None, batch_size: int) -> Floats:
    """Return the embeddings of all images, shape (N, F)."""
    import torch

    from workflow_scripts.debiased_noise.foundation import pixels
    from workflow_scripts.debiased_noise.noise_edit import edited

    edit = None if noise is None else torch.from_numpy(noise)
    starts = range(0, len(store.images), batch_size)
    parts = []
    for start in progress(starts, len(starts), "embed", unit="batches"):
        rows = np.arange(start, min(start + batch_size, len(store.images)))
        images = pixels(store.images, rows)
        images = images if edit is None else edited(images, edit)
        parts.append(access.box.embed(images).cpu().numpy())
    return np.concatenate(parts)


def provenance(
    given: argparse.Namespace, access: Access, edit_card: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what the embeddings were made from."""
    card = read_json(given.card)
    phantom_edit = bool(edit_card and edit_card.get("phantom"))
    return {
        **access.about,
        "phantom": bool(access.about["phantom"] or card["phantom"] or phantom_edit),
        "dataset": card["dataset"],
        "index_sha256": sha256_of(given.index),
        "edit_sha256": edit_card["sha256"] if edit_card else None,
        "edit": edit_card and {name: edit_card[name] for name in TOLD if name in edit_card},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed a store from the command line."""
    from workflow_scripts.datasets.pixels import open_store

    given = build_parser().parse_args(arguments)
    tune_allocator()
    set_threads(given.threads)
    from workflow_scripts.debiased_noise.noise_edit import read_edit

    exact_arithmetic()
    queries = QueryCount(given.query_budget)
    try:
        access = open_box(given, queries, "cuda:0" if given.gpus else "cpu")
        set_threads(given.threads)  # torch's own pool exists only now
        store = open_store(given.store, given.index)
        require_size(store, access.input_size, given.store)
        noise, edit_card = read_edit(given.edit, access.input_size) if given.edit else (None, None)
        values = embed_store(access, store, noise, given.batch_size)
    except (BudgetExhausted, ServiceUnavailable) as error:
        advice = "raise the budget, or start the service, and run this again"
        raise refuse("embedding", "an answer for every image", str(error), advice) from error
    origin = {**provenance(given, access, edit_card), "queries": queries.images}
    write_embeddings(given.out, values, store.image_id, origin)
    log.info("%s: %d images, %d numbers each", given.out, *values.shape)


if __name__ == "__main__":
    sys.exit(run(main))

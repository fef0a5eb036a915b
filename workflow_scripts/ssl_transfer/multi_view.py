"""Step: how alike a checkpoint sees two views of one patient: two eyes, or lateral and frontal.

    python -m workflow_scripts.ssl_transfer.multi_view --features short224-own.npz \
        --manifest manifest.parquet --card card.json --certificate certificate.json \
        --whitening whitening.npz --protocol corrected --out predictions.parquet

The views are ordinary images whose features are there already: no torch. One row a pair.
With `--backbone`, `--store` and `--store-index` instead of `--features` the drawn images are
forwarded here, each by itself, with BatchNorm in training mode.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.predictions import data_name
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.randomness import named_rng
from workflow_scripts.ssl_transfer.cases import (
    AGAIN,
    CARD_KEYS,
    CERTIFICATE_KEYS,
    SYSTEM,
    UNFIT,
    read_features,
    read_keys,
    read_manifest,
)
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.image_draws import one_a_patient
from workflow_scripts.ssl_transfer.invariance import check_whitening, write_scores
from workflow_scripts.ssl_transfer.invariance_protocols import INVARIANCE, InvarianceOptions
from workflow_scripts.ssl_transfer.transform_names import MULTI_VIEW
from workflow_scripts.ssl_transfer.views import N_IMAGES
from workflow_scripts.ssl_transfer.whitening import (
    Features,
    add_batch_arguments,
    check_sources,
    read_whitening,
)

if TYPE_CHECKING:
    import pandas as pd


def view_pairs(table: pd.DataFrame, layout: str, where: Path) -> pd.DataFrame:
    """Return the pairs of views that a layout knows: `patient_id`, `first`, `second` (image ids).

    Raises:
        InputError: the layout has no pairs, or the data set none.
    """
    module = import_module(f"workflow_scripts.datasets.{layout}")
    if not hasattr(module, "pairs"):
        raise refuse(str(where), "a data set with two views of a patient", layout, UNFIT)
    pairs = module.pairs(table)
    first, second = pairs.columns[-2:]
    found: pd.DataFrame = pairs[["patient_id", first, second]].set_axis(
        ["patient_id", "first", "second"], axis=1
    )
    if len(found) == 0:
        raise refuse(str(where), "a patient with both views", "none", "look at the card's flow")
    return found


def drawn_pairs(
    pairs: pd.DataFrame, options: InvarianceOptions, n_pairs: int, seed: int, dataset: str
) -> NDArray[np.int64]:
    """Return the rows of the pairs to judge.

    Which pairs the released code drew is not known: it shuffles anew for each without a seed.
    """
    rng = named_rng(seed, SYSTEM, MULTI_VIEW, dataset)
    if options.with_replacement:
        return rng.integers(len(pairs), size=n_pairs)
    return one_a_patient(pairs["patient_id"].factorize()[0].astype(np.int64), n_pairs, rng)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score some pairs of views from cached features, or forwarded one by one."""
    given = _parser().parse_args(arguments)
    if given.n_images < 1:
        raise refuse("--n-images", "at least 1", str(given.n_images), "give a larger number")
    check_sources(given)
    require_files([given.features, given.backbone, given.store, given.store_index])
    require_files([given.manifest, given.card, given.certificate, given.whitening])
    options = INVARIANCE[given.protocol]
    card = read_keys(given.card, (*CARD_KEYS, "layout"))
    certificate = read_keys(given.certificate, CERTIFICATE_KEYS)
    stored = read_whitening(given.whitening)
    batch_norm = "batch" if given.features is None else "eval"
    wanted = {
        "dataset": card["dataset"],
        "checkpoint": certificate["checkpoint"],
        "backbone_sha256": certificate["backbone_sha256"],
        "geometry": options.multi_view_geometry,
        "normalisation": options.normalisation,
        "protocol": given.protocol,
        "batch_norm": batch_norm,
    }
    check_whitening(stored, wanted, given.whitening)
    column = "split_released" if options.sampled_statistics else "split"
    table = read_manifest(given.manifest, column).set_index("image_id", drop=False)
    pairs = view_pairs(table.reset_index(drop=True), card["layout"], given.manifest)
    present, features_at = _features(given, options)
    place = {name: row for row, name in enumerate(present)}
    seen = pairs["first"].isin(place) & pairs["second"].isin(place)
    pairs = pairs[seen].reset_index(drop=True)
    if len(pairs) == 0:
        found = f"{len(seen)} pairs, each with a view without features"
        raise refuse(str(given.features or given.store), "a pair of views", found, AGAIN)
    judged = pairs.iloc[drawn_pairs(pairs, options, given.n_images, given.seed, card["dataset"])]
    z, other = (
        features_at(np.array([place[one] for one in judged[name]], dtype=np.int64))
        for name in ("first", "second")
    )
    scores = stored.scores(judged["first"].tolist(), z, other[:, None])
    cases = table.loc[judged["first"]].assign(split=lambda found: found[column])
    is_phantom = bool(card["phantom"] or certificate["phantom"])
    diagnostics: dict[str, Any] = {"pairs": len(pairs), "pairs_drawn": len(judged)}
    diagnostics["pairs_unreadable"] = int((~seen).sum())
    ending = "" if batch_norm == "eval" else f"_{batch_norm}"
    write_scores(
        given.out, scores, cases.reset_index(drop=True), stored,
        {
            "row": certificate["checkpoint"], "column": f"{card['dataset']} {MULTI_VIEW}{ending}",
            "protocol": given.protocol, "seed": given.seed,
            "data": data_name(card["dataset"], is_phantom, certificate["pretrained"]),
            "checkpoint": certificate["checkpoint"], "dataset": card["dataset"],
            "options": {**asdict(options), "transform": MULTI_VIEW, "batch_norm": batch_norm},
            "diagnostics": diagnostics,
        },
    )  # fmt: skip


def _features(
    given: argparse.Namespace, options: InvarianceOptions
) -> tuple[list[str], Callable[[NDArray[np.int64]], Features]]:
    """Return the ids of the images, and the function from some of their rows to features (N, F).

    With `--features` they are cached. Otherwise each image is forwarded by itself with BatchNorm
    in training mode, as the released code's last version does.
    """
    if given.features is not None:
        features, image_id, _ = read_features(given.features)
        return image_id.tolist(), lambda rows: features[rows]
    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.datasets.pixels import open_store
    from workflow_scripts.ssl_transfer.batch_statistics import training_features
    from workflow_scripts.ssl_transfer.features import choose_device, pixels_to_input

    network, certificate = load_checked(given.backbone, given.certificate)
    store = open_store(given.store, given.store_index)
    to_input = pixels_to_input(certificate["input"], options.normalisation)

    def forwarded(rows: NDArray[np.int64]) -> Features:
        """Return the features of images that are each a batch of one."""
        batches = (store.images[row : row + 1] for row in rows)
        found = training_features(network, batches, to_input, choose_device(given.gpus))
        require_finite(found, "features of the views")
        return found

    return list(store.image_id), forwarded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in (
        ("manifest", "of the data set, .parquet"),
        ("card", "of the data set, .json"),
        ("certificate", "of the checkpoint, .json"),
        ("whitening", "of the checkpoint and data set, .npz"),
        ("out", "predictions to write, .parquet"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--features", type=Path, help="of the data set, .npz")
    add_batch_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=sorted(INVARIANCE),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--n-images", type=int, default=N_IMAGES, help=f"pairs ({N_IMAGES})")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))

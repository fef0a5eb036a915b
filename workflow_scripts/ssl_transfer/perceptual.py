"""Step: how different images and their reconstructions from features look (LPIPS).

    python -m workflow_scripts.ssl_transfer.perceptual --originals image.png \
        --reconstructions a.png b.png --certificates a.json b.json --card card.json \
        --trunks alexnet.safetensors vgg.safetensors squeezenet.safetensors \
        --trunk-certificates alexnet.json vgg.json squeezenet.json --out a.parquet b.parquet

One run a data set: the originals go through each trunk once, whatever the number of checkpoints.
One row an image: the distance by each trunk, and their mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets.geometry import GEOMETRIES, prepare
from workflow_scripts.files import read_json
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.speed import set_threads, tune_allocator
from workflow_scripts.ssl_transfer.cases import CARD_KEYS, CERTIFICATE_KEYS, SYSTEM, read_keys
from workflow_scripts.ssl_transfer.finite import require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.ssl_transfer.lpips import Lpips

TABLE = "ssl_transfer_perceptual"
TRUNKS = ("alexnet", "vgg", "squeezenet")  # names of the released files, in their order
GEOMETRY = "short224"  # spec P5
Floats = NDArray[np.float64]


def read_images(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Return images in the geometry of the comparison, shape (N, 224, 224, 3), uint8.

    Raises:
        InputError: every file that is no image.
    """
    pixels, problems = [], []
    for path in paths:
        try:
            with Image.open(path) as image:
                pixels.append(prepare(image, GEOMETRIES[GEOMETRY]))
        except (OSError, ValueError) as error:
            step = "make the reconstruction again, or restore the image"
            problems.append(Problem(str(path), "an image of 8 bits a channel", str(error), step))
    if problems:
        raise InputError(problems)
    return np.stack(pixels)


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Return stored images as LPIPS takes them: shape (N, 3, H, W), in [-1, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def distances(
    network: Lpips, originals: NDArray[np.uint8], others: Sequence[NDArray[np.uint8]]
) -> Floats:
    """Return the distance of each original to its counterpart in each of some sets.

    Args:
        network: one trunk.
        originals: shape (N, H, W, 3).
        others: one array a checkpoint, shaped and ordered as the originals.

    Returns:
        Shape (checkpoints, N).
    """
    import torch

    with torch.inference_mode():
        kept = network.layers(as_input(originals))
        return np.stack(
            [
                network.between(kept, network.layers(as_input(one))).double().numpy()
                for one in others
            ]
        )


def load_trunk(name: str, backbone: Path, certificate: Path) -> tuple[Lpips, bool]:
    """Return LPIPS by a trunk of the zoo, and whether its weights are the published ones.

    Raises:
        InputError: the checkpoint is another network.
    """
    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.ssl_transfer.lpips import SHAPES, lpips_of

    network, content = load_checked(backbone, certificate)
    if content["architecture"] != SHAPES[name].architecture:
        step = f"give the checkpoints of {', '.join(TRUNKS)} in this order"
        raise refuse(str(certificate), SHAPES[name].architecture, content["architecture"], step)
    return lpips_of(name, network.get_submodule("features")), bool(content["pretrained"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the reconstructions of some checkpoints with the originals of one data set."""
    given = _parser().parse_args(arguments)
    n_images = len(given.originals)
    _check(given, n_images)
    require_files([*given.certificates, *given.trunks, *given.trunk_certificates, given.card])
    tune_allocator()
    set_threads(given.threads)
    originals = read_images(given.originals)
    images = read_images(given.reconstructions)
    others = [images[i : i + n_images] for i in range(0, len(images), n_images)]
    scores: dict[str, Floats] = {}
    all_trained = True
    for name, backbone, certificate in zip(
        TRUNKS, given.trunks, given.trunk_certificates, strict=True
    ):
        network, is_trained = load_trunk(name, backbone, certificate)
        set_threads(given.threads)  # torch's own pool exists only now
        scores[f"lpips_{name}"] = distances(network, originals, others)
        require_finite(scores[f"lpips_{name}"], f"perceptual distances by {name}")
        all_trained &= is_trained
    scores["lpips"] = np.mean(list(scores.values()), axis=0)
    card = read_keys(given.card, CARD_KEYS)
    for number, (certificate, path) in enumerate(zip(given.certificates, given.out, strict=True)):
        about = _metadata(read_keys(certificate, CERTIFICATE_KEYS), card, given, all_trained)
        columns = {name: values[number] for name, values in scores.items()}
        write_case_scores(path, _cases(given.originals, card["dataset"]), columns, about)


def _cases(originals: Sequence[Path], dataset: str) -> Any:  # noqa: ANN401, a data frame
    import pandas as pd

    names = [path.name for path in originals]
    return pd.DataFrame(
        {
            "image_id": names, "patient_id": names, "domain": dataset, "split": "none",
            "sex": None, "age_years": np.nan, "race": None,
        }
    )  # fmt: skip


def _metadata(
    certificate: dict[str, Any], card: dict[str, Any], given: argparse.Namespace, all_trained: bool
) -> dict[str, Any]:
    dataset = card["dataset"]
    is_phantom = bool(certificate["phantom"] or card["phantom"])
    is_trained = bool(certificate["pretrained"]) and all_trained
    return {
        "system": SYSTEM,
        "table": TABLE,
        "row": certificate["checkpoint"],
        "column": given.column or dataset,
        "protocol": given.protocol,
        "seed": given.seed,
        "kind": "case_means",
        "metric": "lpips",
        "classes": [],
        "data": data_name(dataset, is_phantom, is_trained),
        "checkpoint": certificate["checkpoint"],
        "dataset": dataset,
        "options": {"geometry": GEOMETRY, "trunks": list(TRUNKS), "version": "0.1"},
        "diagnostics": {
            "trunks_pretrained": all_trained,
            "trunk_sha256": [
                read_json(path)["backbone_sha256"] for path in given.trunk_certificates
            ],
        },
    }


def _check(given: argparse.Namespace, n_images: int) -> None:
    """Raise unless the lists of the command line fit each other."""
    n_checkpoints = len(given.certificates)
    wanted = {
        "reconstructions": n_checkpoints * n_images,
        "out": n_checkpoints,
        "trunks": len(TRUNKS),
        "trunk_certificates": len(TRUNKS),
    }
    step = "give all reconstructions of the first checkpoint, then those of the next, ..."
    problems = [
        Problem(f"--{name.replace('_', '-')}", f"{count} files", str(found), step)
        for name, count in wanted.items()
        if (found := len(getattr(given, name))) != count
    ]
    if given.threads < 1:
        problems.append(Problem("--threads", "at least 1", str(given.threads), "give more"))
    if problems:
        raise InputError(problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, text in (
        ("originals", "images of the data set"),
        ("reconstructions", "of each checkpoint, in the order of the originals"),
        ("certificates", "of the checkpoints, .json"),
        ("trunks", f"weights of {', '.join(TRUNKS)}, .safetensors"),
        ("trunk-certificates", "of the trunks, .json"),
        ("out", "predictions to write, one .parquet a checkpoint"),
    ):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--card", type=Path, required=True, help="of the data set, .json")
    parser.add_argument(
        "--protocol",
        choices=("released", "corrected"),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--column", help="column in the table (default: the data set)")
    parser.add_argument("--seed", type=int, default=0, help="of the reconstructions (0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))

"""Run trained networks on the test cases once; write all numbers of each case, and examples.

    python -m workflow_scripts.layer_ensembles.predict --networks networks.safetensors \\
        --images I.npy --masks M.npy --index I.parquet --manifest manifest.parquet \\
        --card card.json --leak-free leak_free.json --dataset bcdr \\
        --out scores.parquet --examples examples.npz

The file holds every number of skipped heads and every combination asked for, so tables, figures
and the sweep over skipped heads need no network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.files import write_atomic
from workflow_scripts.layer_ensembles.cases import Cases, add_case_arguments, read_cases
from workflow_scripts.layer_ensembles.protocols import OPTIONS, Combination
from workflow_scripts.layer_ensembles.scores import Row, case_rows
from workflow_scripts.layer_ensembles.settings import settings_from
from workflow_scripts.predictions import CASE_COLUMNS, data_name, write_case_scores
from workflow_scripts.problems import refuse
from workflow_scripts.speed import exact_arithmetic, tune_allocator

if TYPE_CHECKING:
    import torch

KIND = "uncertainty"
TEXTS = ("skip", "predictions", "combination")  # columns that are no scores
WAITING = 2  # cases a process of the pool that may wait, each some tens of MB


class Trained(NamedTuple):
    """Networks and what their file says about them."""

    members: torch.nn.ModuleList
    about: dict[str, str]


def read_networks(path: Path, cases: Cases, about: dict[str, str]) -> Trained:
    """Build the networks that `train` wrote, on the CPU, for evaluation.

    Raises:
        InputError: they were trained for another number of classes.
    """
    from safetensors.torch import load_file

    from workflow_scripts.layer_ensembles.methods import make_members

    settings = settings_from(about["settings"])
    members = make_members(
        about["method"],
        int(about["seed"]),
        settings.members,
        n_classes=cases.n_classes,
        widths=settings.widths,
        n_heads=settings.heads,
        options=cases.options,
    )
    try:
        members.load_state_dict(load_file(path))
    except RuntimeError as error:  # torch's word for tensors of other names or shapes
        expected = f"networks for the {cases.n_classes} classes of the data card"
        found = str(error).splitlines()[-1].strip()
        raise refuse(str(path), expected, found, "train them on this data set") from error
    return Trained(members.eval(), about)


def describe(path: Path) -> dict[str, str]:
    """Return what the file of the networks says about them.

    Raises:
        InputError: it was not written by `train`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise refuse(str(path), "networks, .safetensors", str(error), "train them again") from error
    if "settings" not in about:
        raise refuse(str(path), "networks that `train` wrote", "others", "train them again")
    return about


def case_logits(
    members: torch.nn.ModuleList, image: NDArray[np.float32], batch: int
) -> NDArray[np.float32]:
    """Return the logits of all slices of a case, shape (T, C, D, H, W).

    Args:
        members: the networks.
        image: as the network sees it, shape (D, H, W).
        batch: slices of one pass.
    """
    import torch

    from workflow_scripts.layer_ensembles.methods import predictions_of

    device = next(members.parameters()).device
    parts = []
    with torch.inference_mode():
        for first in range(0, len(image), batch):
            slices = torch.from_numpy(np.ascontiguousarray(image[first : first + batch]))
            parts.append(predictions_of(list(members), slices[:, None].to(device)).float().cpu())
    stacked = torch.cat(parts, dim=1)  # (T, D, C, H, W)
    logits: NDArray[np.float32] = stacked.movedim(1, 2).contiguous().numpy()
    return logits


def corrupted(image: NDArray[np.float32], name: str, seed: int) -> NDArray[np.float32]:
    """Return the image with the noise that a leftover of the released test code adds.

    Mean 0.3, standard deviation 0.7 on z-normed pixels (spec section 3.2); never for the tables.
    """
    from workflow_scripts.randomness import named_rng

    noise = named_rng(seed, "corrupted test", name).normal(0.3, 0.7, image.shape)
    return (image + noise).astype(np.float32)


def rows_of_cases(
    cases: Cases, trained: Trained, given: argparse.Namespace, kept: dict[str, Any]
) -> Iterator[list[Row]]:
    """Yield the rows of each test case, in order; the pool works while the network goes on."""
    names = cases.ids("test")
    structures = [name.lower() for name in cases.card["classes"][1:]]
    pool = (
        ProcessPoolExecutor(given.jobs, get_context("spawn"), initializer=tune_allocator)
        if given.jobs > 1
        else nullcontext()
    )
    waiting: list[Future[list[Row]]] = []
    with pool as workers:
        for name in names:
            image, volume = cases.inputs(name)
            if given.corrupt:
                image = corrupted(image, name, int(trained.about["seed"]))
            logits = case_logits(trained.members, image, given.batch)
            keep_example(kept, given.n_examples, name, logits, volume)
            task = (logits, volume.mask, volume.spacing_mm, structures, given.combinations,
                    cases.options)  # fmt: skip
            if workers is None:
                yield _rows(*task)
                continue
            waiting.append(workers.submit(_rows, *task))
            if len(waiting) > WAITING * given.jobs:
                yield waiting.pop(0).result()
        for one in waiting:
            yield one.result()


def _rows(*task: Any) -> list[Row]:  # noqa: ANN401, a process of the pool takes it whole
    return list(case_rows(*task))


def keep_example(
    kept: dict[str, Any], n: int, name: str, logits: NDArray[np.float32], volume: Volume
) -> None:
    """Keep the middle labelled slice of the first `n` cases, for the figure of heat maps."""
    number = len(kept) // 3
    if number < n:
        labelled = np.flatnonzero(volume.mask.any(axis=(1, 2)))
        at = int(labelled[len(labelled) // 2]) if len(labelled) else 0
        kept[f"image_{number}"] = volume.image[at]
        kept[f"truth_{number}"] = volume.mask[at]
        kept[f"logits_{number}"] = logits[:, :, at].astype(np.float16)
        kept.setdefault("_names", []).append(name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, run the networks, write the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--networks", type=Path, required=True, help="of the training (.safetensors)"
    )
    parser.add_argument("--dataset", required=True, help="its name in the tables")
    choices = get_args(Combination)
    parser.add_argument(
        "--combinations",
        nargs="+",
        choices=choices,
        default=["mean", "staple"],
        help="of the heads, besides the protocol's own",
    )
    parser.add_argument("--batch", type=int, default=10, help="slices of one pass")
    parser.add_argument("--gpus", type=int, default=0, help="0: run on the CPU")
    parser.add_argument("--jobs", type=int, default=1, help="processes for the numbers")
    parser.add_argument("--n-examples", type=int, default=4, help="cases kept for the figure")
    parser.add_argument(
        "--corrupt", action="store_true", help="noisy test images; not as published"
    )
    parser.add_argument("--out", type=Path, required=True, help="numbers, .parquet")
    parser.add_argument("--examples", type=Path, required=True, help="for the figure, .npz")
    add_case_arguments(parser)
    given = parser.parse_args(arguments)
    tune_allocator()
    exact_arithmetic()
    about = describe(given.networks)
    given.reduction = int(about["reduction"])
    cases = read_cases(given, OPTIONS[about["protocol"]])  # type: ignore[index]  # train wrote it
    trained = read_networks(given.networks, cases, about)
    if given.gpus:
        trained.members.to("cuda")
    kept: dict[str, Any] = {}
    rows = list(rows_of_cases(cases, trained, given, kept))
    write_scores(given, cases, about, rows)
    names = np.array(kept.pop("_names", []), dtype=np.str_)
    write_atomic(given.examples, lambda partial: np.savez_compressed(partial, names=names, **kept))


def write_scores(
    given: argparse.Namespace, cases: Cases, about: dict[str, str], rows: list[list[Row]]
) -> None:
    """Write one row a case, number of skipped heads and combination."""
    import pandas as pd

    table = cases.table.set_index("image_id", drop=False).loc[cases.ids("test")]
    table = table.assign(split=table["part"])
    repeated = table.loc[table.index.repeat([len(one) for one in rows]), list(CASE_COLUMNS)]
    numbers = pd.DataFrame([row for one in rows for row in one])
    scores = {
        name: numbers[name].to_numpy(np.float64) for name in numbers.columns if name not in TEXTS
    }
    metadata = {
        "system": "layer_ensembles",
        "table": "layer_ensembles_scores",
        "row": about["method"],
        "column": given.dataset,
        "protocol": about["protocol"],
        "seed": int(about["seed"]),
        "kind": KIND,
        "metric": "dsc",
        "classes": cases.card["classes"],
        "data": data_name(given.dataset, cases.card["phantom"]),
        "checkpoint": about["method"],
        "dataset": given.dataset,
        "options": {"corrupted": given.corrupt, "distance": "mm" if cases.is_volume else "px"},
        "diagnostics": {**about, "images_not_in_store": cases.lost},
    }
    extra = {name: numbers[name].to_numpy() for name in TEXTS}
    write_case_scores(given.out, repeated.reset_index(drop=True), scores, metadata, extra)


if __name__ == "__main__":
    sys.exit(run(main))

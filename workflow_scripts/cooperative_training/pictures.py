"""What the figures are drawn from: arrays of a few slices, kept in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.cooperative_training.volumes_to_scores import Scores
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

Labels = NDArray[np.uint8]


def write_arrays(path: Path, arrays: Mapping[str, Any], data: str) -> None:
    """Write named arrays (.npz) and what they were made from, whole or not at all."""

    def save(partial: Path) -> None:
        with partial.open("wb") as handle:  # numpy would add a suffix to a bare name
            np.savez_compressed(handle, data=np.array(data), **arrays)

    write_atomic(path, save)


def picture_material(
    store: VolumeStore,
    cases: pd.DataFrame,
    scores: Scores,
    labels: dict[str, dict[int, Labels]],
) -> dict[str, NDArray[Any]]:
    """Return the slice with most foreground of the best, the median and the worst volume.

    Ranked by mean Dice over structures after the last correction; undefined structures are left
    out. Keys: `{rank}_{image, truth, pass0, ...}`, `{rank}_name`, `{rank}_dice` (by passes).
    """
    passes = sorted(scores)
    dice = {
        number: np.array([row.dice for row in rows]).reshape(len(cases), -1)
        for number, rows in scores.items()
    }
    means = {number: _row_means(values) for number, values in dice.items()}
    order = np.argsort(means[passes[-1]], kind="stable")
    order = order[: int(np.isfinite(means[passes[-1]]).sum())]  # undefined volumes stand last
    chosen = {"best": -1, "median": len(order) // 2, "worst": 0} if len(order) else {}
    found: dict[str, NDArray[Any]] = {}
    for rank, at in chosen.items():
        case = int(order[at])
        name = str(cases["image_id"].iloc[case])
        volume = store.volume(name)
        place = int((volume.mask > 0).sum(axis=(1, 2)).argmax())
        found |= {f"{rank}_image": volume.image[place], f"{rank}_truth": volume.mask[place]}
        found |= {f"{rank}_pass{number}": labels[name][number][place] for number in passes}
        found[f"{rank}_name"] = np.array(f"{name}, slice {place + 1}")
        found[f"{rank}_dice"] = np.array([means[number][case] for number in passes])
    found["passes"] = np.array(passes)
    return found


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row's defined values; NaN where there is none."""
    counts = np.isfinite(values).sum(axis=1)
    sums = np.nansum(values, axis=1)
    means = np.full(len(values), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means

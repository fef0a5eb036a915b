"""SSL transfer: each checkpoint's transfer accuracy beside what might foretell it.

A set of points is one column of a transfer table (few-shot, linear, fine-tune) against one
predictor: ImageNet accuracy, or the attentive diffusion, perceptual distance or invariance on the
same data set. Works with whatever of these tables there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.predictions import PHANTOM
from workflow_scripts.report.ledger import read_tables
from workflow_scripts.report.long_form import PROTOCOLS, Value
from workflow_scripts.report.metric_catalogue import CHANCE

SYSTEM = "ssl_transfer"
TRANSFER = ("few_shot", "linear", "finetune")  # tables whose columns are to be foretold
IMAGENET = "imagenet_top1"
MEASURES = {  # table of a predictor: the metrics that are one
    "saliency": ("attentive_diffusion",),
    "perceptual": ("lpips", "lpips_alexnet", "lpips_vgg", "lpips_squeezenet"),
    "invariance": ("whitened_cosine",),
}


@dataclass(frozen=True, slots=True)
class Points:
    """One transfer column against one predictor, a point a checkpoint.

    Attributes:
        protocol: of both.
        predictor: what stands on the x axis.
        column: what stands on the y axis: table and column, such as `few_shot bach 2-way`.
        checkpoints: those that have both numbers.
        metric: of the column, such as `accuracy`.
        x, y: predictor and accuracy, fractions; same length.
        low, high: ends of the accuracy's interval; NaN where there is none.
        data: data set, or `phantom`; of an untrained checkpoint or measure where there is one.
    """

    protocol: str
    predictor: str
    column: str
    metric: str
    checkpoints: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    data: str

    @property
    def errors(self) -> tuple[float, ...] | None:
        """Half widths of the intervals, the longer arm; None unless every point has one above 0."""
        arms = zip(self.y, self.low, self.high, strict=True)
        widths = tuple(max(y - low, high - y) for y, low, high in arms)
        return widths if all(width > 0 for width in widths) else None


def transfer_points(values: Sequence[Value], imagenet: Mapping[str, float]) -> list[Points]:
    """Return all sets of points that some tables hold.

    Args:
        values: of any tables of the system.
        imagenet: ImageNet top-1 accuracy of the checkpoints that have one, fractions.

    Returns:
        By protocol, predictor, then column, in the order of the tables.
    """
    found = []
    transfers = list(first_values(values))
    for protocol in PROTOCOLS:
        columns = by_column(v for v in transfers if v.protocol == protocol)
        predictors = dict(_predictors([v for v in values if v.protocol == protocol]))
        for predictor, by_dataset in {IMAGENET: None, **predictors}.items():
            for column, cells in columns.items():
                name = cells[0].column.split(" ")[0]
                measured = {} if by_dataset is None else by_dataset.get(name, {})
                known = imagenet if by_dataset is None else _numbers(measured)
                used = [v for v in cells if v.row in known and not math.isnan(v.value)]
                data = _data([*(used or cells), *(measured[v.row] for v in used if measured)])
                one = _points(protocol, predictor, column, cells, known, data)
                if one.checkpoints:
                    found.append(one)
    return found


def first_values(values: Iterable[Value]) -> Iterator[Value]:
    """Yield the first metric, the paper's, of each cell of the transfer tables."""
    seen = set()
    for value in values:
        step = value.table.removeprefix(f"{SYSTEM}_")
        cell = (value.table, *value.cell)
        if step in TRANSFER and value.metric != CHANCE and cell not in seen:
            seen.add(cell)
            yield value


def by_column(values: Iterable[Value]) -> dict[str, list[Value]]:
    """Return the cells of each transfer column, named with its table."""
    columns: dict[str, list[Value]] = {}
    for value in values:
        name = f"{value.table.removeprefix(f'{SYSTEM}_')} {value.column}"
        columns.setdefault(name, []).append(value)
    return columns


def _numbers(measured: Mapping[str, Value]) -> dict[str, float]:
    """Return the number of each checkpoint."""
    return {row: value.value for row, value in measured.items()}


def _data(values: Sequence[Value]) -> str:
    """Return what points are made from: the first phantom or untrained value says it for all."""
    if any(value.is_phantom for value in values):
        return PHANTOM
    return next((value.data for value in values if value.is_untrained), values[0].data)


def _predictors(values: Iterable[Value]) -> Iterator[tuple[str, dict[str, dict[str, Value]]]]:
    """Yield each predictor with its value of each checkpoint by data set."""
    found: dict[str, dict[str, dict[str, Value]]] = {}
    for value in values:
        step = value.table.removeprefix(f"{SYSTEM}_")
        if value.metric not in MEASURES.get(step, ()):
            continue
        dataset, _, rest = value.column.partition(" ")
        name = f"{step}_{rest}" if rest else value.metric
        found.setdefault(name, {}).setdefault(dataset, {})[value.row] = value
    yield from found.items()


def _points(
    protocol: str, predictor: str, column: str, cells: Sequence[Value],
    known: Mapping[str, float], data: str,
) -> Points:  # fmt: skip
    """Return the points of the checkpoints that have both numbers."""
    both = [
        (value.row, known[value.row], value.value, value.ci_low, value.ci_high)
        for value in cells
        if value.row in known and not math.isnan(value.value + known[value.row])
    ]
    names, x, y, low, high = zip(*both, strict=True) if both else ((), (), (), (), ())
    metric = cells[0].metric
    return Points(protocol, predictor, column, metric, names, x, y, low, high, data)


def read_system(paths: Iterable[Path]) -> tuple[Value, ...]:
    """Return the values of some tables of the system; see `ledger.read_tables`."""
    return tuple(value for value in read_tables(paths) if value.system == SYSTEM)

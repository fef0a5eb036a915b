"""The metric history: a CSV and TensorBoard, without a wait for the GPU at every step."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.files import write_text
from workflow_scripts.training.failures import first_not_finite, not_finite
from workflow_scripts.training.ranks import Ranks

if TYPE_CHECKING:
    import torch
    from torch.utils.tensorboard import SummaryWriter


class MetricRow(NamedTuple):
    """One line of the history."""

    step: int  # updates done
    epoch: int  # counted from 0
    metric: str
    value: float


class MetricLog:
    """Collects losses on the device, and writes one row for every `every` steps.

    The history is part of the training's state, because a log file does not survive a retry;
    on a resume the CSV is written anew from it, so no row appears twice.

    Args:
        ranks: of the training; rank 0 writes.
        csv_path: the history, long form; None writes none.
        tensorboard_dir: folder of TensorBoard's event files; None writes none.
        every: steps behind one row of a loss, and between two looks for NaN.
    """

    def __init__(
        self, ranks: Ranks, csv_path: Path | None, tensorboard_dir: Path | None, every: int
    ) -> None:
        self.ranks, self.every = ranks, every
        self.rows: list[MetricRow] = []
        self._csv_path = csv_path if ranks.is_first else None
        self._tensorboard_dir = tensorboard_dir if ranks.is_first else None
        self._writer: SummaryWriter | None = None
        self._step_sums: dict[str, torch.Tensor] = {}  # of the step under way
        self._on_device: dict[str, list[torch.Tensor]] = {}  # one scalar a step, not looked at
        self._settled: dict[str, list[float]] = {}  # one number a step, not yet in a row
        self._epochs: list[int] = []  # of the steps that are not yet in a row

    def add_loss(self, name: str, loss: torch.Tensor, share: float) -> None:
        """Add the loss of one micro-batch (a scalar, mean over its cases) to this step's.

        Every step adds the same names, on every rank.
        """
        part = loss.detach() * (share / self.ranks.world_size)
        before = self._step_sums.get(name)
        self._step_sums[name] = part if before is None else before + part

    def end_step(self, step: int, epoch: int, last_good: str) -> None:
        """Close a step; after every `every` of them settle the losses and write their means."""
        for name, value in self._step_sums.items():
            self._on_device.setdefault(name, []).append(value)
        self._step_sums = {}
        self._epochs.append(epoch)
        if step % self.every == 0:
            self.settle(step, last_good)
            self.write_means(step, epoch)

    def settle(self, step: int, last_good: str) -> None:
        """Bring the losses from the devices, sum them over the ranks, and look for NaN.

        Called before every save, so a state is never made of weights after a bad loss.

        Raises:
            TrainingFailure: naming the first step whose loss is not finite, on every rank.
        """
        import torch

        own = {name: torch.stack(values).tolist() for name, values in self._on_device.items()}
        self._on_device = {}
        every_rank = self.ranks.gather(own)
        for name in own:
            sums = [
                sum(values) for values in zip(*(part[name] for part in every_rank), strict=True)
            ]
            self._settled.setdefault(name, []).extend(sums)
        bad = first_not_finite(self._settled)
        if bad is not None:
            name, position = bad
            at = step - len(self._epochs) + position
            raise not_finite(name, at, self._epochs[position], last_good)

    def write_means(self, step: int, epoch: int) -> None:
        """Write the mean of each loss since the last row."""
        for name, values in self._settled.items():
            if values:
                self.record(step, epoch, name, sum(values) / len(values))
        self._settled, self._epochs = {}, []

    def record(self, step: int, epoch: int, metric: str, value: float) -> None:
        """Write one row, such as a validation metric; the value is equal on every rank."""
        row = MetricRow(step, epoch, metric, float(value))
        self.rows.append(row)
        if self._csv_path is not None:
            with self._csv_path.open("a", encoding="utf-8", newline="") as handle:
                csv.writer(handle, lineterminator="\n").writerow(row)
        if self._writer is not None:
            self._writer.add_scalar(metric, row.value, step)

    def open(self, step: int) -> None:
        """Start to write at `step`: the CSV holds the history so far, later rows are dropped."""
        if self._csv_path is not None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([MetricRow._fields, *self.rows])
            write_text(self._csv_path, text.getvalue())
        if self._tensorboard_dir is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._tensorboard_dir), purge_step=step + 1)

    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the settled losses that are not in one; call `settle` before."""
        return {
            "rows": [tuple(row) for row in self.rows],
            "settled": {name: list(values) for name, values in self._settled.items()},
            "epochs": list(self._epochs),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a saved history back."""
        self.rows = [MetricRow(*row) for row in state["rows"]]
        self._settled = {name: list(values) for name, values in state["settled"].items()}
        self._epochs = list(state["epochs"])
        self._on_device, self._step_sums = {}, {}

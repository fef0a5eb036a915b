"""How a training ends when it does not finish: saved for the next attempt, or failed.

Both are `SystemExit`s, so a step that lets them pass ends with a message and the right exit
status, without a traceback; no library that catches `Exception` can swallow them.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence

# "Temporary failure, try again" (EX_TEMPFAIL of BSD's sysexits.h). Snakemake's `retries` start
# the next attempt after any status but 0; this one tells a reader of the log that all is well.
# torchrun hides it: whatever its workers return, its own status is 1.
EXIT_SAVED_NOT_FINISHED = 75

logger = logging.getLogger(__name__)


class SavedNotFinished(SystemExit):
    """The training stopped on purpose; its state is on disk and the next attempt goes on."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(EXIT_SAVED_NOT_FINISHED)
        self.reason = reason
        self.step = step

    def __str__(self) -> str:
        return f"{self.reason}; saved after step {self.step}, the next attempt goes on from there"


class TrainingFailure(SystemExit):
    """The training cannot go on; `str()` is the message, the exit status is 1.

    The message names what failed, the step and epoch, the last good state, and what to try.
    """


def not_finite(name: str, step: int, epoch: int, last_good: str) -> TrainingFailure:
    """Return the failure of a loss that became NaN or infinite at `step` (counted from 0)."""
    return TrainingFailure(
        f"training failed: {name} is not finite at step {step} (epoch {epoch}); "
        f"last good state: {last_good}; next step: look at the metric log before this step; "
        "try a lower learning rate, a longer warm-up, gradient clipping or --precision fp32 "
        "(each is another experiment and is recorded as one), and check the inputs for NaN"
    )


def out_of_memory(error: BaseException, step: int, epoch: int, last_good: str) -> TrainingFailure:
    """Return the failure of an allocation that did not fit, on the GPU or in main memory."""
    told = str(error).strip().splitlines()
    return TrainingFailure(
        f"training failed: out of memory at step {step} (epoch {epoch}): "
        f"{told[0] if told else type(error).__name__}; "
        f"last good state: {last_good}; next step: a smaller micro-batch with the same global "
        "batch (accumulation, see training/accumulation.py), more GPUs, --precision bf16, or "
        "more memory for the job (mem_mb)"
    )


def not_saved(error: OSError, folder: str, step: int, last_good: str) -> TrainingFailure:
    """Return the failure of a state that could not be written, for example on a full disk."""
    return TrainingFailure(
        f"training failed: the state after step {step} cannot be written to {folder}: "
        f"{error.strerror or error}; last good state: {last_good} (untouched); "
        "next step: free space or quota there, then start again: it goes on from that state"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether `error` is an allocation failure of Python, of torch on CPU, or of CUDA."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's CPU allocator raises a bare RuntimeError; its text is the only mark.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def first_not_finite(losses: Mapping[str, Sequence[float]]) -> tuple[str, int] | None:
    """Return name and position of the earliest NaN or infinite value, or None.

    >>> first_not_finite({"loss": [0.5, 0.4], "prior": [1.0, float("nan")]})
    ('prior', 1)
    """
    import math

    found = [
        (position, name)
        for name, values in losses.items()
        for position, value in enumerate(values)
        if not math.isfinite(value)
    ]
    if not found:
        return None
    position, name = min(found)
    return name, position

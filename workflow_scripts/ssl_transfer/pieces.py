"""Finished pieces of a long computation, kept on disk until the whole is there.

A killed job loses at most the piece under way. Pieces lie in a folder named after everything
that they belong to, so that those of other options, weights, pixels or code are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import write_atomic


class Pieces:
    """Arrays by name in one folder.

    Args:
        state: folder of this job's state; what it holds for another purpose is removed.
        belongs_to: everything that the pieces depend on, as JSON values.
    """

    def __init__(self, state: Path, belongs_to: Mapping[str, Any]) -> None:
        text = json.dumps(belongs_to, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.state, self.folder = state, state / f"pieces-{digest}"
        for other in state.glob("pieces-*"):
            if other != self.folder:
                shutil.rmtree(other)

    def get(self, name: str, compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the piece `name`: from disk, or computed and kept."""
        path = self.folder / f"{name}.npy"
        if path.is_file():
            kept: NDArray[np.float64] = np.load(path, allow_pickle=False)
            return kept
        piece = compute()
        write_atomic(path, lambda partial: np.save(partial, piece))
        return piece

    def forget(self) -> None:
        """Remove the pieces: what they were for is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

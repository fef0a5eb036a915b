"""Reading a store of volumes: slices and whole volumes, without copying what is not asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd


class VolumeStore:
    """A store that `volume_store` made.

    Attributes:
        index: one row a slice: `image_id, patient_id, frame, slice, offset, rows, columns,
            spacing_slice_mm, spacing_row_mm, spacing_column_mm, foreground` (labelled pixels).
    """

    def __init__(self, images: Path, masks: Path, index: Path) -> None:
        """Open the three files of a store.

        Raises:
            InputError: the arrays are not of the length that the index says.
        """
        import pandas as pd

        self.index: pd.DataFrame = pd.read_parquet(index)
        self._images: NDArray[np.float32] = np.load(images, mmap_mode="r")
        self._masks: NDArray[np.uint8] = np.load(masks, mmap_mode="r")
        length = int((self.index["rows"] * self.index["columns"]).sum())
        if not len(self._images) == len(self._masks) == length:
            found = f"{len(self._images)} voxels and {len(self._masks)} classes"
            raise refuse(str(index), f"arrays of {length}", found, "make the store again")

    def __len__(self) -> int:
        return len(self.index)

    def slice(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return image and mask of the slice in row `number` of the index, each (H, W)."""
        row = self.index.iloc[number]
        first, shape = int(row["offset"]), (int(row["rows"]), int(row["columns"]))
        part = np.s_[first : first + shape[0] * shape[1]]
        return self._images[part].reshape(shape), self._masks[part].reshape(shape)

    def volume(self, image_id: str) -> Volume:
        """Return all slices of a volume.

        Raises:
            KeyError: the store does not hold it.
        """
        rows = self.index[self.index["image_id"] == image_id]
        if rows.empty:
            raise KeyError(image_id)
        one, first = rows.iloc[0], int(rows["offset"].iloc[0])
        shape = (len(rows), int(one["rows"]), int(one["columns"]))
        part = np.s_[first : first + int(np.prod(shape))]
        slice_mm, row_mm, column_mm = (
            float(one[f"spacing_{axis}_mm"]) for axis in ("slice", "row", "column")
        )
        image, mask = self._images[part].reshape(shape), self._masks[part].reshape(shape)
        return Volume(image, mask, (slice_mm, row_mm, column_mm))

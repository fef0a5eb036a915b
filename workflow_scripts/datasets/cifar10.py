"""CIFAR-10: 60,000 photographs of 32 x 32 pixels in ten classes, in Python's batch files.

The one data set of the paper without medicine. Images and labels lie in six pickles, so reading
the index means opening them; `batches.py` does that without running what is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from workflow_scripts.datasets.batches import IMAGE_BYTES, SIDE, pickled, read_batch, read_pickle
from workflow_scripts.datasets.layout import Index, Layout, Options, Render, mark_phantom
from workflow_scripts.files import void, write_atomic
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
BATCHES: Final = {**dict.fromkeys(TRAIN_BATCHES, "train"), TEST_BATCH: "test"}
META = "batches.meta"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def read(root: Path, options: Options) -> Index:
    """Read the labels of all six batches; see `Layout.read`.

    Raises:
        InputError: a file is missing, is no pickle of plain data, or is no batch; other classes.
    """
    import pandas as pd

    folder = root / FOLDER
    if not folder.is_dir():
        raise refuse(str(folder), "the batches of CIFAR-10", "no such folder", LAYOUT.unpack)
    _check_classes(folder / META)
    parts = []
    for name, split in BATCHES.items():
        batch = read_batch(folder / name, len(CLASSES))
        rows = [str(row) for row in range(len(batch.labels))]
        part = pd.DataFrame({"image_id": [f"{name}_{row.zfill(5)}" for row in rows]}, dtype=object)
        part["path"] = [f"{FOLDER}/{name}#{row}" for row in rows]
        part["label"], part["row"] = batch.labels, range(1, len(rows) + 1)
        parts.append(part.assign(split=split, label_text=list(batch.names)))
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(
        patient_id=table["image_id"],
        study_id=table["image_id"],
        view=None,
        domain="cifar10",
        sex=None,
        age_years=float("nan"),
        race=None,
        dropped=None,
        split_released=table["split"],
        order_released=np.arange(len(table)),  # torchvision's order, no shuffle
    ).astype({"label": "Int64"})
    return Index(
        table=table,
        classes=CLASSES,
        filters=(),
        index_files=tuple(f"{FOLDER}/{name}" for name in (META, *BATCHES)),
        split_policy=f"official: {TEST_BATCH} is the test part",
        patients_known=False,
    )


def _check_classes(path: Path) -> None:
    """Refuse an archive whose class names are others, such as CIFAR-100's."""
    names = read_pickle(path).get("label_names")
    found = [n.decode("latin1") if isinstance(n, bytes) else str(n) for n in names or ()]
    if found != list(CLASSES):
        expected = f"the classes {', '.join(CLASSES)}"
        raise refuse(f"{path} key 'label_names'", expected, ", ".join(found)[:200], LAYOUT.unpack)


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; `path` says the batch and the row within it.

    A `label_text` is the file name that an image once had; `label` is its class.
    """
    mark_phantom(root, LAYOUT.name, truth)
    batch_of = truth["path"].str.extract(r"/(\w+)#")[0]
    for number, (name, split) in enumerate(BATCHES.items(), start=1):
        rows: list[dict[str, Any]] = [
            {str(key): value for key, value in row.items()}
            for row in truth[batch_of == name].to_dict("records")
        ]
        pixels = [planes(render(row)) for row in rows]
        described = "testing batch 1 of 1" if split == "test" else f"training batch {number} of 5"
        content: dict[str, Any] = {
            "batch_label": described.encode(),
            "labels": [int(row["label"]) for row in rows],
            "data": np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, IMAGE_BYTES),
            "filenames": [str(row["label_text"]).encode("latin1") for row in rows],
        }
        _write(root / FOLDER / name, content)
    meta = {
        "num_cases_per_batch": int((batch_of == TRAIN_BATCHES[0]).sum()),
        "label_names": [name.encode() for name in CLASSES],
        "num_vis": IMAGE_BYTES,
    }
    _write(root / FOLDER / META, meta)


def planes(image: Image.Image) -> bytes:
    """Return an image as a row of a batch: its red, green and blue plane.

    Raises:
        ValueError: it is not 32 x 32.
    """
    if image.size != (SIDE, SIDE):
        raise ValueError(f"an image of {image.size} pixels, expected {SIDE} x {SIDE}")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1).tobytes()


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write one pickle of Python 2."""
    write_atomic(path, lambda partial: void(partial.write_bytes(pickled(content))))


LAYOUT = Layout(
    name="cifar10",
    title="CIFAR-10",
    licence="none stated; cite the report",
    access="open download, no registration",
    source="https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10 python version)",
    citation="Krizhevsky A. Learning multiple layers of features from tiny images. 2009.",
    unpack=f"cifar-10-python.tar.gz, so that {FOLDER}/{TEST_BATCH} exists",
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"RGB"}),
    policies={"ten_classes": "released: the label of the batch"},
    options={},
    read=read,
    write=write,
)

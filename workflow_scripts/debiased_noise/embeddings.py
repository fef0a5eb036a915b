"""Cached embeddings: each image forwarded once for each foundation model and edit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import write_atomic
from workflow_scripts.problems import refuse

ARRAYS = ("embeddings", "image_id", "provenance")
AGAIN = "make the file again with debiased_noise.embed"
Floats = NDArray[np.float32]


class Embeddings(NamedTuple):
    """A file of cached embeddings.

    Attributes:
        values: shape (N, F), float32, finite.
        image_id: shape (N,).
        provenance: which model (`backbone_sha256`, `checkpoint`), which data set, which edit
            (`edit_sha256` and `edit`, None without), whether anything is a phantom.
    """

    values: Floats
    image_id: tuple[str, ...]
    provenance: dict[str, Any]


def write_embeddings(
    path: Path, values: Floats, image_id: tuple[str, ...], provenance: Mapping[str, Any]
) -> None:
    """Write embeddings, whole or not at all.

    Raises:
        InputError: an embedding is not finite; its images are named.
    """
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        names = ", ".join(image_id[row] for row in bad[:5])
        advice = "check the weights, the image and the edit"
        raise refuse(str(path), "finite embeddings", f"{len(bad)} are not: {names}", advice)
    content: dict[str, Any] = {
        "embeddings": values,
        "image_id": np.array(image_id),
        "provenance": np.array(json.dumps(dict(provenance), allow_nan=False)),
    }
    write_atomic(path, partial(np.savez, **content))


def read_embeddings(path: Path, wanted: Mapping[str, Any] | None = None) -> Embeddings:
    """Return cached embeddings.

    Args:
        path: the file.
        wanted: what its provenance must say, such as `dataset` or `backbone_sha256`.

    Raises:
        InputError: a missing or damaged file, or embeddings of something else.
    """
    if not path.is_file():
        raise refuse(str(path), "a file of embeddings", "none", AGAIN)
    with np.load(path, allow_pickle=False) as content:
        missing = [name for name in ARRAYS if name not in content]
        if missing:
            raise refuse(str(path), "arrays " + ", ".join(ARRAYS), f"no {missing}", AGAIN)
        found = Embeddings(
            content["embeddings"],
            tuple(content["image_id"].tolist()),
            json.loads(str(content["provenance"])),
        )
    for key, value in (wanted or {}).items():
        if found.provenance.get(key) != value:
            said = f"{key} {found.provenance.get(key)!r}"
            raise refuse(str(path), f"embeddings of {key} {value!r}", said, AGAIN)
    return found

"""B10: the second pass over a data set, from the image store instead of from the files.

    python -m benchmarks.pixel_cache [--scale 1.0] [--folder DIR]

Baseline: open with Pillow, transform with torchvision, one image at a time. Product: read the
uint8 store, normalise in float32. The tensors are equal to the last bit. The store is made once
before; its cost is printed and not part of the ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.timing import Comparison, compare, timed
from workflow_scripts.datasets import store
from workflow_scripts.datasets.pixels import network_input, open_store

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32
Images = list[NDArray[np.float32]]


def write_images(folder: Path, form: str, count: int, side: int) -> list[Path]:
    """Write gray PNG or colour JPEG files with the structure and noise of radiographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    paths = []
    for number in range(count):
        shape = 128 + 90 * np.cos(3 * x + number) * np.cos(2 * y - number)
        noisy = np.clip(shape[..., None] + rng.normal(0, 3, (side, side, 3)), 0, 255)
        image = Image.fromarray(noisy.astype(np.uint8))
        path = folder / f"{number:04d}.{form}"
        image.convert("L" if form == "png" else "RGB").save(path, compress_level=1)
        paths.append(path)
    return paths


def from_files(paths: Sequence[Path]) -> Images:
    """Return the network input the plain way, batch by batch."""
    import torch
    from torchvision import transforms

    pipeline = transforms.Compose(
        [
            transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return [
        torch.stack([pipeline(Image.open(path).convert("RGB")) for path in batch]).numpy()
        for batch in _batches(paths)
    ]


def from_store(store_path: Path, index_path: Path) -> Images:
    """Return the network input from the image store, batch by batch."""
    images, _, _ = open_store(store_path, index_path)
    return [
        network_input(images[first : first + BATCH], "mean_std", MEAN, STD)
        for first in range(0, len(images), BATCH)
    ]


def _batches(paths: Sequence[Path]) -> list[Sequence[Path]]:
    return [paths[first : first + BATCH] for first in range(0, len(paths), BATCH)]


def _build_store(paths: Sequence[Path], folder: Path) -> tuple[Path, Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [path.name for path in paths]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    table = pa.table({"image_id": names, "path": names, "sha256": hashes})
    pq.write_table(table, folder / "manifest.parquet")
    store_path, index_path = folder / "store.npy", folder / "store.parquet"
    arguments = {
        "manifest": folder / "manifest.parquet",
        "root": paths[0].parent,
        "geometry": "short224",
        "store": store_path,
        "index": index_path,
        "quarantine": folder / "quarantine.csv",
    }
    store.main([text for key, value in arguments.items() for text in (f"--{key}", str(value))])
    return store_path, index_path


def equal(expected: Images, found: Images) -> bool:
    """Return whether all batches are equal to the last bit."""
    return len(expected) == len(found) and all(
        np.array_equal(a.view(np.uint32), b.view(np.uint32))
        for a, b in zip(expected, found, strict=True)
    )


def measure(folder: Path, scale: float = 1.0) -> list[Comparison]:
    """Run both cases below `folder`; `scale` shrinks numbers and sides of the images."""
    rows = []
    for form, count, side in (("png", 120, 1500), ("jpeg", 400, 512)):
        n_images, pixels = max(4, round(count * scale)), max(240, round(side * scale))
        paths = write_images(folder / form, form, n_images, pixels)
        cost, (store_path, index_path) = timed(lambda p=paths: _build_store(p, folder))
        print(f"{form}: {n_images} images of {pixels} px stored in {cost.cpu_s:.2f} CPU-s")
        from_files(paths[:1])  # imports are not part of the comparison
        rows.append(
            compare(
                f"B10 pixel-cache {form}",
                lambda p=paths: from_files(p),
                lambda s=store_path, i=index_path: from_store(s, i),
                equal,
            )
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where the tensors differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = measure(Path(folder), given.scale)
    return 0 if all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

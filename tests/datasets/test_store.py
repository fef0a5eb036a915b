"""The store holds what decodes, in the manifest's order, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from workflow_scripts.datasets import store as store_module
from workflow_scripts.datasets.geometry import GEOMETRIES, prepare
from workflow_scripts.datasets.kept import Kept
from workflow_scripts.datasets.pixels import open_store
from workflow_scripts.datasets.store import decode, main
from workflow_scripts.problems import InputError


class Folder:
    """A data set's folder with a manifest, and the command line that stores it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "data"
        self.root.mkdir()
        self.rows: list[tuple[str, str, str]] = []
        self.store, self.index = path / "s.npy", path / "s.parquet"
        self.quarantine = path / "s.quarantine.csv"

    def add(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)
        self.rows.append((name, name, hashlib.sha256(content).hexdigest()))

    def arguments(self, *more: str) -> list[str]:
        columns = zip(*self.rows, strict=True)
        table = pa.table(dict(zip(("image_id", "path", "sha256"), columns, strict=True)))
        pq.write_table(table, self.path / "manifest.parquet")
        return [
            *("--manifest", str(self.path / "manifest.parquet"), "--root", str(self.root)),
            *("--geometry", "short224", "--store", str(self.store)),
            *("--index", str(self.index), "--quarantine", str(self.quarantine), *more),
        ]


def encoded(seed: int, form: str = "PNG", mode: str = "RGB", side: int = 40) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (side, side + 9, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).convert(mode).save(file, form)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_store_holds_the_prepared_pixels_in_manifest_order(folder: Folder, jobs: str) -> None:
    for number in range(9):
        folder.add(f"{number}.png", encoded(number, mode=("L", "RGB", "RGBA")[number % 3]))
    main(folder.arguments("--jobs", jobs))
    images, image_id, sha256 = open_store(folder.store, folder.index)
    assert [*zip(image_id, sha256, strict=True)] == [(row[0], row[2]) for row in folder.rows]
    for pixels, row in zip(images, folder.rows, strict=True):
        with Image.open(folder.root / row[1]) as image:
            np.testing.assert_array_equal(pixels, prepare(image, GEOMETRIES["short224"]))


def test_undecodable_files_are_quarantined_with_the_reason(folder: Folder) -> None:
    whole = encoded(1, "JPEG", side=90)
    contents = {
        "a.png": encoded(0),
        "b_cut.jpg": whole[: len(whole) // 2],
        "c.jpg": whole,
        "d_cut.png": encoded(2)[:-700],
        "e_empty.png": b"",
        "f_text.png": b"<html>please log in</html>",
        "g.png": encoded(3, mode="I;16"),
        "h.png": encoded(4),
    }
    for name, content in contents.items():
        folder.add(name, content)
    main(folder.arguments())
    images, image_id, _ = open_store(folder.store, folder.index)
    assert image_id == ("a.png", "c.jpg", "h.png")
    for pixels, name in zip(images, image_id, strict=True):
        with Image.open(folder.root / name) as image:
            np.testing.assert_array_equal(pixels, prepare(image, GEOMETRIES["short224"]))
    header, *lines = folder.quarantine.read_text().splitlines()
    assert header == "image_id,path,reason"
    reasons = dict(line.split(",", 2)[1:] for line in lines)
    assert "truncated" in reasons["b_cut.jpg"]
    assert "truncated" in reasons["d_cut.png"]
    assert "cannot identify image file" in reasons["e_empty.png"]
    assert "cannot identify image file" in reasons["f_text.png"]
    assert "more than 8 bits" in reasons["g.png"]
    assert len(reasons) == 5


def test_rows_move_up_correctly_when_more_are_refused_than_one_block_holds(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOVE_ROWS", 2)
    for number in range(11):
        folder.add(f"{number:02d}", b"" if number in (0, 1, 4, 7, 10) else encoded(number))
    main(folder.arguments())
    images, image_id, _ = open_store(folder.store, folder.index)
    assert image_id == ("02", "03", "05", "06", "08", "09")
    for pixels, name in zip(images, image_id, strict=True):
        with Image.open(folder.root / name) as image:
            np.testing.assert_array_equal(pixels, prepare(image, GEOMETRIES["short224"]))
    assert folder.store.stat().st_size == 6 * 224 * 224 * 3 + images.offset  # type: ignore[attr-defined]


def test_deep_images_are_stored_with_their_bit_depth(folder: Folder) -> None:
    values = np.linspace(0, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    folder.add("deep.png", file.getvalue())
    main(folder.arguments("--bit-depth", "12"))
    images, _, _ = open_store(folder.store, folder.index)
    assert images.min() == 0
    assert images.max() == 255
    made = json.loads(pq.read_schema(folder.index).metadata[b"steadfast"])
    assert made["bit_depth"] == 12
    assert made["geometry"] == "short224"


def test_changed_and_missing_files_are_refused_in_one_message(folder: Folder) -> None:
    for number in range(3):
        folder.add(f"{number}.png", encoded(number))
    (folder.root / "0.png").write_bytes(encoded(99))
    (folder.root / "2.png").unlink()
    with pytest.raises(InputError) as error:
        main(folder.arguments())
    first, second = str(error.value).splitlines()
    assert f"0.png: expected the file of the manifest, sha256 {folder.rows[0][2]}, found" in first
    assert "2.png" in second
    assert "not readable: No such file" in second
    assert not folder.store.exists()
    assert not folder.index.exists()


def test_data_set_of_which_nothing_decodes_is_refused(folder: Folder) -> None:
    folder.add("a.png", b"x")
    folder.add("b.png", b"y")
    with pytest.raises(InputError, match="expected images that decode, found 2 that do not"):
        main(folder.arguments())
    assert not folder.store.exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image_id": ["a"], "path": ["a"]}, "expected columns image_id, path, sha256, found no"),
        ({"image_id": [], "path": [], "sha256": []}, "expected at least one image, found none"),
        (
            {"image_id": ["a", "a"], "path": ["a", "b"], "sha256": ["", ""]},
            "expected each image_id once, found repeated ids",
        ),
    ],
)
def test_wrong_manifest_is_refused(
    folder: Folder, table: dict[str, list[str]], message: str
) -> None:
    folder.add("a", b"")
    arguments = folder.arguments()
    pq.write_table(pa.table(table), folder.path / "manifest.parquet")
    with pytest.raises(InputError, match=message):
        main(arguments)


def test_failed_run_takes_the_old_index_away(folder: Folder) -> None:
    folder.add("a.png", encoded(0))
    main(folder.arguments())
    (folder.root / "a.png").write_bytes(b"changed")
    with pytest.raises(InputError):
        main(folder.arguments())
    assert not folder.index.exists()


@pytest.mark.slow
def test_killed_run_leaves_nothing_that_is_accepted_and_the_next_run_goes_on(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(16):
        content = b"" if number == 1 else encoded(number, side=900)
        folder.add(f"{number:02d}.png", content)
    arguments = folder.arguments()
    command = [sys.executable, "-m", "workflow_scripts.datasets.store", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not list(folder.path.glob(".s.kept/rows3.json")) and time.monotonic() < deadline:
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
    finished = len(list(folder.path.glob(".s.kept/rows*.json")))
    assert finished >= 4
    assert not folder.store.exists()
    assert not folder.index.exists()
    decoded = []

    def counted(*arguments: Any) -> Any:
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(store_module, "decode", counted)
    main(arguments)
    assert len(decoded) == 16 - finished
    images, image_id, _ = open_store(folder.store, folder.index)
    assert len(image_id) == 15
    for pixels, name in zip(images, image_id, strict=True):
        with Image.open(folder.root / name) as image:
            np.testing.assert_array_equal(pixels, prepare(image, GEOMETRIES["short224"]))
    assert not list(folder.path.glob(".s.kept"))


def test_what_was_kept_for_other_files_is_not_taken(folder: Folder) -> None:
    folder.add("a.png", encoded(0))
    kept = Kept(folder.store, {"rows": "of another manifest"})
    kept.path("rows0.json").write_text('{"faults": []}')
    main(folder.arguments())
    assert open_store(folder.store, folder.index).images.any()


def test_step_starts_without_torch_and_pandas() -> None:
    code = (
        "import sys, workflow_scripts.datasets.store, workflow_scripts.datasets.pixels;"
        "print([name for name in ('torch', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

"""Generated damage to the archives: refused or quarantined with a reason, never passed or crashed.

Each example damages one place of a whole phantom archive and makes its manifest.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.image_source import file_of
from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.datasets.manifest import build
from workflow_scripts.datasets.phantom import parse_phantom, sample_truth
from workflow_scripts.problems import InputError

SIZES = {
    "diabetic_retinopathy": '{"patients": 10}',
    "ichallenge_amd": '{"images": 8}',
    "ichallenge_pm": '{"images": 10}',
    "montgomery": '{"images": 8}',
    "stoic": '{"images": 8}',
    "cifar10": '{"images": 60, "min_per_class": 1}',
}
# Columns without which an archive says nothing, by position; text columns may hold anything.
COLUMNS = {
    "diabetic_retinopathy": ("trainLabels.csv", (0, 1)),
    "ichallenge_amd": ("amd_labels.csv", (1,)),
    "ichallenge_pm": ("PALM-Training400/fovea_location_csv.csv", (4,)),
    "stoic": ("metadata/reference.csv", (0, 1, 2)),
}


def picture(row: dict[str, Any]) -> Any:
    rng = np.random.default_rng(zlib.crc32(row["image_id"].encode()))
    if row["mode"] == "HU":
        volume = rng.integers(-1200, 1200, (4, 9, 11)).astype(np.int16)
        volume[:, 0, :2] = (-1000, 100)
        return volume
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).convert(row["mode"])


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, text in SIZES.items():
        size, _ = parse_phantom(text, name)
        truth, _ = sample_truth({"layout": name}, size, 0, name)
        made[name] = tmp_path_factory.mktemp(name)
        write = layout_named(name).write
        assert write is not None
        write(made[name], truth, picture, {})
    return made


def manifest_of(root: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    table, _, quarantine = build(name, {"layout": name}, root, seed=0, jobs=1)
    return table, quarantine


def with_damage(
    archives: dict[str, Path],
    tmp: pytest.TempPathFactory,
    name: str,
    file: str,
    damage: Callable[[bytes], bytes],
) -> Path:
    root = tmp.mktemp("damaged") / name
    shutil.copytree(archives[name], root)
    (root / file).write_bytes(damage((root / file).read_bytes()))
    return root


@pytest.mark.parametrize("name", SIZES)
def test_a_whole_archive_has_no_quarantine(archives: dict[str, Path], name: str) -> None:
    table, quarantine = manifest_of(archives[name], name)
    assert quarantine.empty
    assert table["sha256"].nunique() == len(table) > 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(COLUMNS)),
    row=st.integers(0, 7),
    column=st.integers(0, 2),
    cell=st.sampled_from(["", "?", "-1", "9", "1.0", "NaN", "abc", "0 ", "é", '"', "1,1", "\t"]),
)
def test_a_wrong_cell_is_refused_with_its_row(
    archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    row: int,
    column: int,
    cell: str,
) -> None:
    file, columns = COLUMNS[name]

    def damage(content: bytes) -> bytes:
        lines = content.decode().splitlines()
        cells = lines[1 + row].split(",")
        cells[columns[column % len(columns)]] = cell
        lines[1 + row] = ",".join(cells)
        return "\n".join(lines).encode()

    root = with_damage(archives, tmp_path_factory, name, file, damage)
    is_patient = name == "stoic" and columns[column % 3] == 0 and cell == "9"
    if is_patient:  # a number like any other, whose volume is missing
        _, quarantine = manifest_of(root, name)
        assert quarantine["reason"].tolist() == ["file not found"]
        return
    with pytest.raises(InputError) as error:
        manifest_of(root, name)
    assert Path(file).name in str(error.value)
    assert "row" in str(error.value)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([name for name in SIZES if name != "cifar10"]),
    which=st.integers(0, 5),
    kind=st.sampled_from(["cut", "empty", "text", "mode", "gone", "page"]),
    share=st.floats(0.02, 0.9),
)
def test_a_damaged_image_is_quarantined_and_the_others_stay(
    archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    which: int,
    kind: str,
    share: float,
) -> None:
    table, _ = manifest_of(archives[name], name)
    victim = table.iloc[which]
    file = file_of(victim["path"])
    damages: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda content: content[: int(share * len(content))],
        "empty": lambda content: b"",
        "text": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
        "page": lambda content: b"<html>please log in</html>",
        "mode": _sixteen_bit,
        "gone": lambda content: content,
    }
    root = with_damage(archives, tmp_path_factory, name, file, damages[kind])
    if kind == "gone":
        (root / file).unlink()
    left, quarantine = manifest_of(root, name)
    assert quarantine["image_id"].tolist() == [victim["image_id"]]
    assert quarantine["reason"].iloc[0]
    assert set(left["image_id"]) == set(table["image_id"]) - {victim["image_id"]}


def _sixteen_bit(content: bytes) -> bytes:
    """Return a whole image of a mode that nobody can mean."""
    import io

    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(stream, "PNG")
    return stream.getvalue()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["data_batch_1", "data_batch_3", "test_batch", "batches.meta"]),
    share=st.floats(0, 0.999),
    kind=st.sampled_from(["cut", "empty", "page", "twice", "gone"]),
)
def test_a_damaged_batch_of_cifar_is_refused_by_name(
    archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    file: str,
    share: float,
    kind: str,
) -> None:
    damages: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda content: content[: int(share * len(content))],
        "empty": lambda content: b"",
        "page": lambda content: b"<html>moved</html>",
        "twice": lambda content: content.replace(b"labels", b"LABELS").replace(b"label_", b"l_"),
        "gone": lambda content: content,
    }
    path = f"cifar-10-batches-py/{file}"
    root = with_damage(archives, tmp_path_factory, "cifar10", path, damages[kind])
    if kind == "gone":
        (root / path).unlink()
    with pytest.raises(InputError) as error:
        manifest_of(root, "cifar10")
    assert file in str(error.value)


@pytest.mark.parametrize("name", ["stoic", "ichallenge_pm", "cifar10"])
def test_an_archive_that_was_not_unpacked_says_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected the data of") as error:
        manifest_of(tmp_path / "absent", name)
    assert layout_named(name).unpack in str(error.value)

"""Pickles are read without running them; anything but a batch is refused."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.datasets.batches import (
    IMAGE_BYTES,
    pickled,
    read_batch,
    read_pickle,
    read_row,
)
from workflow_scripts.problems import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, IMAGE_BYTES), dtype=np.uint8)


def batch(**changes: Any) -> dict[str, Any]:
    content = {"labels": [0, 9, 3], "data": PIXELS, "filenames": [b"a.png", b"b.png", b"c.png"]}
    return {"batch_label": b"training batch 1 of 5", **content, **changes}


class Malicious:
    """What an attacker would put into a batch: a command that runs when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_batch_comes_back(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(pickled(batch()))
    found = read_batch(tmp_path / "b", 10)
    np.testing.assert_array_equal(found.pixels, PIXELS)
    assert found.labels.tolist() == [0, 9, 3]
    assert found.names == ("a.png", "b.png", "c.png")
    assert read_row(tmp_path / "b", 1) == PIXELS[1].tobytes()
    with pytest.raises(IndexError):
        read_row(tmp_path / "b", 3)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_batch_that_python_3_wrote_comes_back(tmp_path: Path, protocol: int) -> None:
    content = {key.encode(): value for key, value in batch().items()}
    (tmp_path / "b").write_bytes(pickle.dumps(content, protocol=protocol))
    if protocol == 5:  # numpy hands over its buffer by a function of its own
        with pytest.raises(InputError, match="which has no place in it"):
            read_batch(tmp_path / "b", 10)
    else:
        np.testing.assert_array_equal(read_batch(tmp_path / "b", 10).pixels, PIXELS)


def test_python_and_numpy_read_what_we_write() -> None:
    found = pickle.loads(pickled(batch()), encoding="latin1")
    np.testing.assert_array_equal(found["data"], PIXELS)
    assert found["filenames"] == ["a.png", "b.png", "c.png"]


def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = {b"data": Malicious(mark), b"labels": [], b"filenames": []}
    (tmp_path / "b").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError) as error:
        read_batch(tmp_path / "b", 10)
    assert "system, which has no place in it" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "os\nsystem", "numpy\nload", "numpy\nfromfile"])
def test_no_name_outside_the_list_is_ever_looked_up(tmp_path: Path, name: str) -> None:
    (tmp_path / "b").write_bytes(b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(InputError, match="which has no place in it"):
        read_pickle(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1]}, "key 'labels': expected a list of 3, found 2"),
        ({"labels": [0, 10, 1]}, "labels[1]: expected a class of 0 to 9, found 10"),
        ({"labels": [0, -1, 1]}, "labels[1]: expected a class of 0 to 9, found -1"),
        ({"labels": b"\x00\x01\x02"}, "key 'labels': expected a list of 3, found bytes"),
        ({"filenames": []}, "key 'filenames': expected a list of 3, found 0"),
        ({"data": PIXELS[:, :5]}, "key 'data': expected rows of 3072 bytes, found shape (3, 5)"),
        ({"data": PIXELS[:0]}, "key 'data': expected rows of 3072 bytes"),
        ({"data": [1, 2]}, "key 'data': expected rows of 3072 bytes, found shape (0, 0)"),
    ],
)
def test_a_pickle_that_is_no_batch_is_refused_by_its_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "b").write_bytes(pickled(batch(**changes)))
    with pytest.raises(InputError) as error:
        read_batch(tmp_path / "b", 10)
    assert message in str(error.value)


def test_an_array_of_other_numbers_is_refused(tmp_path: Path) -> None:
    content = {b"data": PIXELS.astype(np.float32), b"labels": [0] * 3, b"filenames": [b"x"] * 3}
    (tmp_path / "b").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match="an array of something else than rows of bytes"):
        read_batch(tmp_path / "b", 10)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_batch_is_refused_or_still_a_batch_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    small = pickled(batch(data=PIXELS))
    head = len(small) - PIXELS.nbytes  # hit the structure, not only the pixels
    content = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, head), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path_factory.mktemp("b") / "b"
    path.write_bytes(bytes(content))
    with contextlib.suppress(InputError):  # any other exception fails
        found = read_batch(path, 10)
        assert found.pixels.shape == PIXELS.shape
        assert len(found.names) == len(found.labels) == 3

"""No pickle runs anything, and what it holds comes out as it went in."""

from __future__ import annotations

import argparse
import builtins
import collections
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.checkpoints.safe_pickle import (
    Record,
    array_of,
    as_mapping,
    inert_baggage,
    read_pickle,
)
from workflow_scripts.checkpoints.source_file import read_torch
from workflow_scripts.problems import InputError


class Calls:
    """Pickles as a call of `function` on `arguments`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def opcodes(module: str, name: str, argument: str) -> bytes:
    """Return a pickle, written by hand, that calls any name with one text."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


MARK = "touched"
MALICIOUS = {
    "os.system": Calls(os.system, f"touch {MARK}"),
    "builtins.eval": Calls(builtins.eval, f"open({MARK!r}, 'w')"),
    "builtins.exec": Calls(builtins.exec, f"open({MARK!r}, 'w')"),
    "builtins.getattr": Calls(builtins.getattr, "text", "upper"),
    "builtins.__import__": Calls(builtins.__import__, "antigravity"),
    "subprocess.Popen": Calls(subprocess.Popen, ["touch", MARK]),
    "builtins.open": Calls(open, MARK, "w"),
    "numpy.load": Calls(np.load, MARK),
}
BY_HAND = {
    "posix.system": opcodes("posix", "system", f"touch {MARK}"),
    "a function of a package with inert classes": opcodes("jax.numpy", "load", MARK),
    "a function by way of such a package": opcodes("haiku", "os.system", f"touch {MARK}"),
    "an attribute of an allowed class": opcodes("builtins", "dict.fromkeys", MARK),
    "dill's importer": opcodes("dill._dill", "_import_module", "os.system"),
    "dill's type maker": opcodes("dill._dill", "_create_type", "type"),
    "the reader itself": opcodes("workflow_scripts.checkpoints.safe_pickle", "read_pickle", MARK),
    "codecs": b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
}


@pytest.mark.parametrize("name", MALICIOUS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_runs_nothing(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    content = {"experiment_state": {"online_params": MALICIOUS[name]}}
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(InputError, match="nothing of it was run"):
        read_pickle(path)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("name", BY_HAND)
def test_a_pickle_written_by_hand_gets_no_further(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    path.write_bytes(BY_HAND[name])
    with pytest.raises(InputError, match="expected arrays, plain containers and records only"):
        read_pickle(path)
    assert not (tmp_path / MARK).exists()


def test_a_name_in_the_message_says_what_the_pickle_wanted(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(opcodes("posix", "system", "true"))
    with pytest.raises(InputError, match=r"posix\.system"):
        read_pickle(path)


def test_a_record_of_an_unknown_class_is_inert(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(opcodes("haiku._src.data_structures", "FlatMapping", "content"))
    content = read_pickle(path)
    assert isinstance(content, Record)
    assert content.arguments == ("content",)


@given(
    st.lists(st.integers(1, 4), max_size=4),
    st.sampled_from(["f4", "f8", "i4", "i8", "u1", "bool", ">f4"]),
    st.sampled_from("CF"),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_arrays_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    kind: str,
    order: Any,
    protocol: int,
) -> None:
    count = int(np.prod(shape))
    array = np.arange(count).reshape(shape).astype(kind, order=order)
    path = tmp_path_factory.mktemp("array") / "array.pkl"
    path.write_bytes(pickle.dumps({"array": array}, protocol))
    content = as_mapping(read_pickle(path))
    assert content is not None
    found = array_of(content["array"])
    assert found is not None
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sets_and_empty_arrays_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "content.pkl"
    content = {"set": {1, 2}, "frozen": frozenset({3}), "empty": np.zeros((0, 3), "f4")}
    path.write_bytes(pickle.dumps(content, protocol))  # BYOL's: 2, with the names of Python 2
    found = as_mapping(read_pickle(path))
    assert found is not None
    assert (found["set"], found["frozen"]) == ({1, 2}, frozenset({3}))
    array = array_of(found["empty"])
    assert array is not None
    assert array.shape == (0, 3)


def test_an_array_of_python_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(pickle.dumps(np.array([{}, None], dtype=object)))
    with pytest.raises(InputError, match="is no number"):
        read_pickle(path)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_pickle_that_was_cut_off_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(pickle.dumps({"array": np.zeros(5000)})[:size])
    with pytest.raises(InputError):
        read_pickle(path)


def test_a_training_script_s_baggage_is_passed_over(tmp_path: Path) -> None:
    content = {
        "model": {"w": torch.ones(2)},
        "opt": argparse.Namespace(lr=np.float64(0.1), path=Path("a/b")),
    }
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with inert_baggage():
        found = read_torch(path)
    assert torch.equal(found["model"]["w"], torch.ones(2))
    assert isinstance(found["opt"], Record)
    with pytest.raises(InputError):
        read_torch(path)  # the permission ended with the block


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_malicious_torch_file_is_refused_with_baggage_allowed(
    is_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    content = {"model": {"w": torch.ones(2)}, "opt": Calls(os.system, f"touch {MARK}")}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    with inert_baggage(), pytest.raises(InputError):
        read_torch(path)
    assert not (tmp_path / MARK).exists()


def test_mappings_of_old_and_new_haiku_are_unwrapped() -> None:
    inner = {"w": 1}
    by_argument = Record(inner)
    by_state = Record()
    by_state.__setstate__({"_storage": inner, "_hash": None})
    ambiguous = Record()
    ambiguous.__setstate__({"a": {}, "b": {}})
    assert as_mapping(by_argument) == as_mapping(by_state) == inner
    assert as_mapping(ambiguous) is None
    assert as_mapping(collections.OrderedDict(inner)) == inner

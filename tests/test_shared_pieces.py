"""Whole files, refusals, random streams, code digests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from workflow_scripts import code_digest as digests
from workflow_scripts.command_line import run
from workflow_scripts.files import (
    sha256_of,
    write_atomic,
    write_json,
    write_safetensors,
    write_text,
)
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.problems import MAX_SHOWN, InputError, Problem, refuse
from workflow_scripts.randomness import named_rng, stream_seed


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_with_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_equal_tensors_give_equal_bytes_that_others_can_read(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(3, np.float32)}
    about = {f"key {i}": "é" * i for i in range(20)}
    for i in range(5):  # the library's own order of the metadata changes
        write_safetensors(tmp_path / f"{i}.safetensors", save(tensors, about))
    assert len({sha256_of(file) for file in tmp_path.iterdir()}) == 1
    file = tmp_path / "0.safetensors"
    with safe_open(file, "np") as found:
        assert found.metadata() == about
        assert all(np.array_equal(found.get_tensor(name), one) for name, one in tensors.items())
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_equal_predictions_give_equal_bytes_whatever_the_order_of_their_metadata(
    tmp_path: Path,
) -> None:
    cases = pd.DataFrame({name: ["a"] for name in CASE_COLUMNS})
    metadata: dict[str, object] = dict.fromkeys(METADATA_NAMES, "x")
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for path, names in zip(paths, ("pq", "qp"), strict=True):
        metadata["options"] = dict.fromkeys(names, 1)
        write_case_scores(path, cases, {"dice": np.ones(1)}, metadata)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_sha256_is_the_one_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert sha256_of(path) == expected


def test_error_lists_problems_and_counts_the_rest() -> None:
    problems = [Problem(f"row {i}", "a", "b", "c") for i in range(MAX_SHOWN + 3)]
    text = str(InputError(problems))
    assert text.count("expected a, found b; next step: c") == MAX_SHOWN
    assert text.endswith("... and 3 more problems")


def test_step_with_bad_input_ends_with_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    def step(_: object) -> None:
        raise refuse("a.csv row 3", "a number", "'x'", "correct the row")

    assert run(step, []) == 1
    assert "a.csv row 3: expected a number, found 'x'; next step: correct the row" in (
        capsys.readouterr().err
    )


@given(st.integers(0, 2**31), st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True))
def test_streams_depend_on_seed_and_name_only(seed: int, purpose: list[str]) -> None:
    first, again = (named_rng(seed, *purpose).integers(2**62, size=4) for _ in range(2))
    assert (first == again).all()
    assert stream_seed(seed, *purpose) != stream_seed(seed + 1, *purpose)
    assert stream_seed(seed, *purpose) != stream_seed(seed, *purpose, "more")


def test_digest_sees_indirect_imports_and_ignores_touching(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "workflow_scripts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("x = 1\n")
    (package / "outer.py").write_text("def f():\n    from workflow_scripts.inner import x\n")
    (package / "other.py").write_text("y = 1\n")
    monkeypatch.setattr(digests, "ROOT", tmp_path)

    def digest() -> str:
        digests._reached.cache_clear()
        digests._imports.cache_clear()
        return digests.code_digest("workflow_scripts.outer")

    before = digest()
    shutil.copy(package / "inner.py", package / "copy.py")
    (package / "other.py").write_text("y = 2\n")
    (package / "inner.py").touch()
    assert digest() == before
    (package / "inner.py").write_text("x = 2\n")
    assert digest() != before
    digests._reached.cache_clear()
    digests._imports.cache_clear()


def test_digest_sees_a_data_file_that_a_module_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "workflow_scripts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lists.py").write_text('SOURCE = Path(__file__).with_name("patients.json")\n')
    (package / "patients.json").write_text("[1, 2]")
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    before = digests.code_digest("workflow_scripts.lists")
    (package / "patients.json").write_text("[1, 3]")
    after = digests.code_digest("workflow_scripts.lists")
    for cached in (digests._reached, digests._imports, digests._data_of):
        cached.cache_clear()
    assert after != before


def test_lists_of_patients_count_as_code_of_the_segmenter(root: Path) -> None:
    assert digests._data_of("workflow_scripts.datasets.acdc_lists") == {"acdc_splits.json"}


def test_digest_of_unknown_module_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="no module"):
        digests.code_digest("workflow_scripts.nowhere")

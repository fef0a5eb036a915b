"""Reading predictions: what a file says it is, and the cases in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.predictions import METADATA_KEY
from workflow_scripts.problems import InputError, Problem, nearest, refuse
from workflow_scripts.report.long_form import PROTOCOLS
from workflow_scripts.report.metric_catalogue import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("system", "table", "row", "column", "protocol", "kind", "metric", "data")
KINDS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("kinds/[a-z]*.py")))
AGAIN = "make the file again with the step that wrote it"


@dataclass(frozen=True, slots=True)
class Header:
    """What a predictions file says it is: one seed of one cell of a table."""

    path: Path
    system: str
    table: str
    row: str
    column: str
    protocol: str
    kind: str
    metric: str
    data: str
    seed: int

    @property
    def cell(self) -> tuple[str, str, str]:
        """Where its value will stand: protocol, row, column."""
        return self.protocol, self.row, self.column


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of one predictions file.

    Attributes:
        truth: class index, shape (N,), int64.
        scores: one column a class, larger is likelier, shape (N, C), float64, finite.
        image_id: shape (N,), text.
        patient_id: shape (N,), text.
        episode: episode of each case, shape (N,), int64; None for `classification`.
    """

    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    image_id: NDArray[np.str_]
    patient_id: NDArray[np.str_]
    episode: NDArray[np.int64] | None


def read_headers(paths: Iterable[Path]) -> tuple[Header, ...]:
    """Return the header of every predictions file, in the given order.

    Raises:
        InputError: every file that is missing, is no parquet file, or does not describe itself.
    """
    headers: list[Header] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            headers.append(_read_header(path))
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return tuple(headers)


def _read_header(path: Path) -> Header:
    """Return the header of one predictions file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise refuse(str(path), "a predictions file", "nothing", "check the path, or run its rule")
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise refuse(str(path), "a whole parquet file", str(error), AGAIN) from error
    key = METADATA_KEY.encode()
    if key not in metadata:
        raise refuse(str(path), f"the metadata key {METADATA_KEY!r}", "none", AGAIN)
    content = json.loads(metadata[key])
    problems = _header_problems(path, content)
    if problems:
        raise InputError(problems)
    return Header(path=path, seed=content["seed"], **{name: content[name] for name in TEXTS})


def _header_problems(path: Path, content: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the metadata of a predictions file."""
    problems = [
        Problem(f"{path} key {name!r}", "a text", repr(content.get(name)), AGAIN)
        for name in TEXTS
        if not (isinstance(content.get(name), str) and content[name])
    ]
    if type(content.get("seed")) is not int:
        found = repr(content.get("seed"))
        problems.append(Problem(f"{path} key 'seed'", "an integer", found, AGAIN))
    metric = "a metric of report/metric_catalogue.py"  # too many to name
    for name, known, expected in (
        ("kind", KINDS, " or ".join(KINDS)),
        ("metric", METRICS, metric),
        ("protocol", PROTOCOLS, " or ".join(PROTOCOLS)),
    ):
        word = content.get(name)
        if isinstance(word, str) and word not in known:
            advice = nearest(word, known)  # of hundreds of metrics only a near one is worth naming
            step = advice if advice.startswith("did you mean") else AGAIN
            problems.append(Problem(f"{path} key {name!r}", expected, word, step))
    return problems


def read_cases(header: Header) -> Cases:
    """Return the cases of a predictions file.

    Raises:
        InputError: a column is missing, the file has no case, a truth or an id is unknown, a
            score is not finite, or `classification` has one image twice.
    """
    import pyarrow.parquet as pq

    table = pq.ParquetFile(header.path).read()  # read_table would import pandas
    score_names = [f"score_{i}" for i in range(_score_count(table.column_names))]
    wanted = ["image_id", "patient_id", "truth"] + ["episode"] * (header.kind == "episodes")
    missing = [name for name in wanted if name not in table.column_names]
    if missing or len(score_names) < 2:
        expected = ", ".join([*wanted, "score_0, score_1, ..."])
        raise refuse(str(header.path), expected, ", ".join(table.column_names), AGAIN)
    if table.num_rows == 0:
        raise refuse(str(header.path), "at least one case", "none", AGAIN)
    unknown = [name for name in wanted if table[name].null_count]
    if unknown:
        raise refuse(f"{header.path} columns {', '.join(unknown)}", "no gap", "gaps", AGAIN)
    cases = Cases(
        truth=_integers(header, table, "truth"),
        scores=np.column_stack([_floats(table, name) for name in score_names]),
        image_id=np.asarray(table["image_id"].to_pylist(), dtype=np.str_),
        patient_id=np.asarray(table["patient_id"].to_pylist(), dtype=np.str_),
        episode=_integers(header, table, "episode") if header.kind == "episodes" else None,
    )
    _check_numbers(header, cases)
    return cases


def read_case_columns(header: Header) -> dict[str, NDArray[Any]]:
    """Return every column of a predictions file of per-case scores, by name.

    Numbers are float64 with NaN where a score is undefined, or int64; texts hold None where
    unknown.

    Raises:
        InputError: the file has no case, an id is unknown, or a number is infinite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(header.path).read()
    if table.num_rows == 0:
        raise refuse(str(header.path), "at least one case", "none", AGAIN)
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        if pa.types.is_integer(kind):
            columns[name] = _integers(header, table, name)
        elif pa.types.is_floating(kind):
            columns[name] = _floats(table, name)
        else:
            columns[name] = np.asarray(table[name].to_pylist(), dtype=object)
    for name in ("image_id", "patient_id"):
        if name not in columns or any(value is None for value in columns[name]):
            raise refuse(f"{header.path} column {name}", "an id in each row", "a gap", AGAIN)
    infinite = [n for n, c in columns.items() if c.dtype == np.float64 and np.isinf(c).any()]
    if infinite:
        raise refuse(f"{header.path} columns {', '.join(infinite)}", "numbers", "infinity", AGAIN)
    return columns


def _score_count(names: Iterable[str]) -> int:
    """Return how many columns score_0, score_1, ... there are without a gap."""
    present, count = set(names), 0
    while f"score_{count}" in present:
        count += 1
    return count


def _integers(header: Header, table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column as int64; a number with a fraction is refused, not cut."""
    import pyarrow as pa

    try:
        column = table[name].cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise refuse(f"{header.path} column {name}", "integers", str(error), AGAIN) from error
    return _array(column)


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as float64; a gap is NaN."""
    import pyarrow as pa

    return _array(table[name].cast(pa.float64()).fill_null(np.nan))


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column without gaps as an array; pyarrow's own way would import pandas."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def _check_numbers(header: Header, cases: Cases) -> None:
    """Raise if a truth names no class, a score is not finite or an image is classified twice."""
    problems = []
    n_classes = cases.scores.shape[1]
    for row in np.flatnonzero((cases.truth < 0) | (cases.truth >= n_classes)):
        expected = f"a class of 0 to {n_classes - 1}"
        found = str(cases.truth[row])
        problems.append(Problem(f"{header.path} row {row} truth", expected, found, AGAIN))
    for row in np.flatnonzero(~np.isfinite(cases.scores).all(axis=1)):
        found = str(cases.scores[row].tolist())
        problems.append(Problem(f"{header.path} row {row} scores", "finite numbers", found, AGAIN))
    if cases.episode is None:
        names, counts = np.unique(cases.image_id, return_counts=True)
        for name, count in zip(names[counts > 1], counts[counts > 1], strict=True):
            where, found = f"{header.path} image {name}", f"{count} times"
            problems.append(Problem(where, "each image once", found, AGAIN))
    if problems:
        raise InputError(problems)

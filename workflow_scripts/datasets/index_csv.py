"""Reading an index CSV strictly: every cell is text, no cell is moved, every problem has its row.

Rows are numbered as a spreadsheet shows them: the header is row 1.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets.layout import row_problem
from workflow_scripts.problems import InputError, Problem, nearest, refuse

if TYPE_CHECKING:
    import pandas as pd

OLDEST_YEARS = 120  # an age above it is a typing error (ChestX-ray14 has 16, such as 412Y)
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}


def find_index(root: Path, names: Sequence[str], advice: str) -> Path:
    """Return the first of the index files `names` that stands below `root`.

    Raises:
        InputError: none does; `advice` says where to get it.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    raise refuse(str(root / names[0]), f"the index file {' or '.join(names)}", "no file", advice)


def read_cells(
    path: Path,
    *,
    header: Sequence[str] | None = None,
    clean: Callable[[bytes], bytes] = bytes,
) -> pd.DataFrame:
    """Read a comma-separated UTF-8 file (or `.csv.gz`) as text, with its row numbers.

    Args:
        path: the file.
        header: column names of a file that has no header row.
        clean: repairs a known quirk of a published file, bytes in, bytes out.

    Returns:
        One row a record: the columns of the file as text (an empty cell is `""`) and `row`.

    Raises:
        InputError: the file is missing or empty, is not UTF-8, names a column twice, or has rows
            with too few or too many cells.
    """
    import io

    import pyarrow as pa
    from pyarrow import csv

    content = clean(_read_text(path)).rstrip(b"\r\n")
    names = list(header or _header(path, content))
    bad_rows: list[Problem] = []

    def note_bad_row(row: csv.InvalidRow) -> str:
        found = f"{row.actual_columns} cells: {row.text[:80]}"
        advice = 'put a text that holds a comma into "quotation marks"'
        where = f"{path.name} row {row.number}"
        bad_rows.append(Problem(where, f"{row.expected_columns} cells", found, advice))
        return "skip"

    table = csv.read_csv(
        io.BytesIO(content + b"\n"),
        read_options=csv.ReadOptions(
            column_names=names, skip_rows=0 if header else 1, use_threads=False
        ),
        parse_options=csv.ParseOptions(
            newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note_bad_row
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    if bad_rows:
        raise InputError(bad_rows)
    if table.num_rows == 0:
        raise refuse(path.name, "at least one row below the header", "none", "check the file")
    cells: pd.DataFrame = table.to_pandas().astype(object)  # as fast as arrow text in map, str
    cells["row"] = range(1 if header else 2, len(cells) + (1 if header else 2))
    return cells


def _read_text(path: Path) -> bytes:
    """Return the bytes of a file that must be there, not empty, and UTF-8."""
    if not path.is_file():
        raise refuse(str(path), "a CSV file", "no file", "check the name and the folder")
    content = _unpacked(path).removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        raise refuse(str(path), "a CSV file with a header and rows", "an empty file", "fill it")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte {content[error.start]:#04x} in line {line}"
        raise refuse(str(path), "UTF-8 text", found, "save it as CSV UTF-8") from error
    return content


def _unpacked(path: Path) -> bytes:
    """Return the bytes of a file, of its content where its name ends in `.gz`."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise refuse(str(path), "a whole gzip file", str(error), "download it again") from error


def _header(path: Path, content: bytes) -> list[str]:
    """Return the column names of the first line."""
    import csv

    line = content.split(b"\n", 1)[0].decode("utf-8").rstrip("\r")
    if "\r" in line:
        found = "lines that end in a carriage return alone"
        raise refuse(str(path), "lines that end in a line feed", found, "save it as CSV UTF-8")
    names = next(csv.reader([line]))
    if not any(names):
        found, advice = "an empty line", "remove the lines above the header"
        raise refuse(f"{path.name} row 1", "the names of the columns", found, advice)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise refuse(f"{path.name} row 1", "each column once", f"{twice} twice", "rename one")
    return names


def require_columns(cells: pd.DataFrame, path: Path, wanted: dict[str, str]) -> None:
    """Refuse a table without the columns that are needed.

    Args:
        cells: from `read_cells`.
        path: its file.
        wanted: what asks for the column (such as `option label`) to column name.
    """
    names = [str(name) for name in cells.columns if name != "row"]
    problems = [
        Problem(
            f"{path.name} row 1",
            f"column {column!r} ({why})",
            f"columns {', '.join(names)}",
            "separate the cells with commas"
            if len(names) == 1 and (";" in names[0] or "\t" in names[0])
            else nearest(column, names),
        )
        for why, column in wanted.items()
        if column not in names
    ]
    if problems:
        raise InputError(problems)


def repeated(cells: pd.DataFrame, file: str, column: str) -> list[Problem]:
    """Return a problem for each row whose cell in `column` stands in an earlier row already."""
    first = cells.groupby(column, sort=False)["row"].transform("min")
    again = cells[cells["row"] != first]
    return [
        row_problem(file, row, f"each image once (first in row {before})", name, "remove one")
        for row, before, name in zip(again["row"], first[again.index], again[column], strict=True)
    ]


def outside(
    cells: pd.DataFrame, file: str, column: str, allowed: pd.Series, expected: str, advice: str
) -> list[Problem]:
    """Return a problem for each row where `allowed` (boolean, one a row) is false."""
    wrong = cells[~allowed.to_numpy(dtype=bool)]
    return [
        row_problem(file, row, expected, value, advice)
        for row, value in zip(wrong["row"], wrong[column], strict=True)
    ]


def text_or_none(cells: pd.Series) -> pd.Series:
    """Return stripped text as Python strings, `None` where a cell is empty."""
    stripped = cells.str.strip().astype(object)
    return stripped.where(stripped != "", None)


def sexes(cells: pd.Series) -> pd.Series:
    """Return `F` and `M` for the usual spellings, `None` for everything else."""
    return cells.str.strip().str.lower().map(SEXES).astype(object).where(lambda s: s.notna(), None)


def ages_years(cells: pd.Series) -> pd.Series:
    """Return ages in years, NaN where a cell is empty, no number, or no human age.

    Plain numbers, and the published form of ChestX-ray14: `058Y`, `011M` (months), `013D` (days).

    >>> import pandas as pd
    >>> ages_years(pd.Series(["058Y", "006M", "57", "412Y", ""])).tolist()
    [58.0, 0.5, 57.0, nan, nan]
    """
    import pandas as pd

    texts = pd.Series(cells.unique(), dtype=object)  # few, so the pattern costs nothing
    parts = texts.str.strip().str.extract(r"^(\d+(?:\.\d*)?)([YMD]?)$")
    per_year = parts[1].map({"Y": 1.0, "": 1.0, "M": 12.0, "D": 365.25}).astype(float)
    years = pd.to_numeric(parts[0]).astype(float) / per_year
    human = years.where(years <= OLDEST_YEARS)
    return cells.map(dict(zip(texts, human, strict=True))).astype(float)

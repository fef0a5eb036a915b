"""The cells of an Excel workbook (.xlsx) as text: its first sheet, without a spreadsheet library.

CheXpert's demographics are published as a workbook. The format is a zip of XML: `sharedStrings`
holds the texts, `sheet1` the cells, which name a text by its number or hold a number.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from workflow_scripts.files import write_atomic
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd

SPACE: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
SHEET: Final = "xl/worksheets/sheet1.xml"
TEXTS: Final = "xl/sharedStrings.xml"
DAMAGE: Final = (zipfile.BadZipFile, KeyError, ElementTree.ParseError, ValueError, IndexError)
FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: equal bytes every time


def read_workbook(path: Path) -> pd.DataFrame:
    """Return the first sheet: its first row names the columns, every cell is text, and `row`.

    Raises:
        InputError: the file is no whole workbook, or its first sheet is empty.
    """
    import pandas as pd

    try:
        with zipfile.ZipFile(path) as archive:
            texts = _shared_texts(archive)
            sheet = ElementTree.fromstring(archive.read(SHEET))  # noqa: S314 - a local file
        rows = [_cells(row, texts) for row in sheet.iter(f"{SPACE}row")]
    except DAMAGE as error:
        advice = "download it again, or save the sheet as CSV UTF-8 beside it"
        raise refuse(str(path), "a whole .xlsx workbook", str(error), advice) from error
    if len(rows) < 2:
        raise refuse(str(path), "a header and rows in the first sheet", f"{len(rows)}", "fill it")
    width = max(map(len, rows))
    filled = [row + [""] * (width - len(row)) for row in rows]
    table = pd.DataFrame(filled[1:], columns=filled[0], dtype=object)
    return table.assign(row=range(2, len(filled) + 1))


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    """Return the texts that cells name by number; none where the workbook has only numbers."""
    if TEXTS not in archive.namelist():
        return []
    root = ElementTree.fromstring(archive.read(TEXTS))  # noqa: S314 - a local file
    return ["".join(t.text or "" for t in one.iter(f"{SPACE}t")) for one in root]


def _cells(row: ElementTree.Element, texts: Sequence[str]) -> list[str]:
    """Return a row's cells in their columns; a cell that is left out is empty."""
    found: list[str] = []
    for cell in row.iter(f"{SPACE}c"):
        column = _column_number(cell.get("r"), len(found))
        found += [""] * (column - len(found))
        value = cell.findtext(f"{SPACE}v") or ""
        if cell.get("t") == "s":
            value = texts[int(value)]
        elif cell.get("t") == "inlineStr":
            value = "".join(t.text or "" for t in cell.iter(f"{SPACE}t"))
        found.append(value)
    return found


def _column_number(reference: str | None, default: int) -> int:
    """Return the column of a cell's reference such as `AB12`, counted from 0."""
    letters = re.match(r"[A-Z]+", reference or "")
    if letters is None:
        return default
    number = 0
    for letter in letters.group():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def write_workbook(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write texts as the first sheet of a workbook, whole or not at all."""
    texts = sorted({cell for row in rows for cell in row})
    number = {text: i for i, text in enumerate(texts)}
    cell = '<c r="{}{}" t="s"><v>{}</v></c>'
    lines = (
        f'<row r="{r}">'
        + "".join(cell.format(_letters(c), r, number[text]) for c, text in enumerate(row))
        + "</row>"
        for r, row in enumerate(rows, start=1)
    )
    items = (f'<si><t xml:space="preserve">{escape(text)}</t></si>' for text in texts)
    space = SPACE.strip("{}")
    parts = {
        TEXTS: f'<sst xmlns="{space}">{"".join(items)}</sst>',
        SHEET: f'<worksheet xmlns="{space}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
        **_frame(space),
    }

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in parts.items():
                archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), XML + text)

    write_atomic(path, write)


def _letters(column: int) -> str:
    return chr(ord("A") + column)  # a phantom has a few columns


XML: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def _frame(space: str) -> dict[str, str]:
    """Return the parts that tell a spreadsheet program where sheet and texts are."""
    link = '<Relationship Id="rId{}" Type="' + _OFFICE + '/{}" Target="{}"/>'
    links = f'<Relationships xmlns="{_PACKAGE}/relationships">{{}}</Relationships>'
    override = '<Override PartName="/{}" ContentType="' + _TYPE + '.{}+xml"/>'
    types = "".join(
        override.format(name, kind)
        for name, kind in (
            ("xl/workbook.xml", "sheet.main"),
            (SHEET, "worksheet"),
            (TEXTS, "sharedStrings"),
        )
    )
    default = (
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    )
    return {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">{default}{types}</Types>',
        "_rels/.rels": links.format(link.format(1, "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{space}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": links.format(
            link.format(1, "worksheet", "worksheets/sheet1.xml")
            + link.format(2, "sharedStrings", "sharedStrings.xml")
        ),
    }

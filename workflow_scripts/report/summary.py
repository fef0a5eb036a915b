"""The overview: an HTML page, and the text that a run prints at its end.

Run by hand::

    python -m workflow_scripts.report.summary --tables T1.csv T2.csv --ledger ledger.csv \
        --cards chestx/card.json --certificates moco-v2/certificate.json --figures T1.svg \
        --page summary.html --text summary.txt
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, write_text
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.report import trust_cells
from workflow_scripts.report.job_costs import rule_costs
from workflow_scripts.report.ledger import COLUMNS as LEDGER_COLUMNS
from workflow_scripts.report.ledger import VERDICTS, count_cells
from workflow_scripts.report.long_form import read_csv, read_values
from workflow_scripts.report.metric_catalogue import metric_named
from workflow_scripts.report.page import Content, Section, key_of, page
from workflow_scripts.report.page_data import Json
from workflow_scripts.report.rendering import PHANTOM_WARNING, Block, blocks, cells_of, legend
from workflow_scripts.report.sources import read_sources
from workflow_scripts.report.trust_columns import TABLE as TRUST_MATRIX

WIDTH = 100  # columns of the text; a common terminal
SOURCES = ".sources.csv"  # ends the name of the list of a table's predictions
SUFFIXES = (".csv", ".md", ".tex")  # the forms of a table, side by side
CARD_KEYS = ("dataset", "flow", "phantom")
CERTIFICATE_KEYS = (
    "checkpoint", "architecture", "parameters", "backbone_sha256", "missing", "unexpected",
)  # fmt: skip


def text_block(block: Block) -> list[str]:
    """Return the grid of one protocol as plain text; wide tables continue below."""
    first = max(len("chance level"), *map(len, block.rows))
    grids: list[list[list[str]]] = []  # of columns, each a list of lines
    room = 0
    for i, column in enumerate(block.columns):
        entries = [cells_of(block, name)[i] for name in block.rows]
        body = [f">{text}" if bold else text for text, bold in entries]
        name, _, way = column.name.rpartition(" ")
        way = way if name else ""
        if len({one.metric for one in block.columns}) > 1:
            way = " ".join(filter(None, (way, metric_named(column.metric).heading)))
        lines = [name or column.name, way, *body, *[block.chance[i]] * any(block.chance)]
        width = max(map(len, lines)) + 2
        if width > room:
            grids.append([])
            room = WIDTH - first
        room -= width
        grids[-1].append([line.rjust(width) for line in lines])
    names = ["", "", *block.rows, *["chance level"] * any(block.chance)]
    text: list[str] = []
    for grid in grids:
        rows = zip(names, *grid, strict=True)
        text += [*("".join([name.ljust(first), *cells]).rstrip() for name, *cells in rows), ""]
    return text


def summary_text(
    sections: Sequence[Section], ledger: Sequence[Mapping[str, str]], places: Mapping[str, str]
) -> str:
    """Return where to look, the first table, and the counts of the ledger.

    Args:
        sections: the tables, the main one first.
        ledger: the lines of the ledger's CSV file.
        places: what lies where.
    """
    indent = max(map(len, places)) + 2
    lines = ["Where to look", *(f"  {what:<{indent}}{where}" for what, where in places.items())]
    main = sections[0]
    if any(block.is_phantom for section in sections for block in section.blocks):
        lines += ["", *wrapped(PHANTOM_WARNING)]
    for block in main.blocks:
        lines += ["", f"{main.table}, protocol {block.protocol}", "", *text_block(block)]
        lines += wrapped(legend(block).replace("Bold", ">"))
    counts = count_cells((key_of(line), line["verdict"]) for line in ledger)
    lines += ["", "Ledger: printed values by verdict"]
    for table, count in counts.items():
        shown = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict])
        lines.append(f"  {table}: {shown}")
    return "\n".join(lines) + "\n"


def wrapped(text: str) -> list[str]:
    """Return the text in lines that fit."""
    import textwrap

    return textwrap.wrap(text, WIDTH)


def read_described(paths: Sequence[Path], keys: Sequence[str]) -> list[Json]:
    """Return JSON files that must have some keys.

    Raises:
        InputError: every file that is missing or lacks one of them.
    """
    contents: list[Json] = []
    problems: list[Problem] = []
    for path in paths:
        if not path.is_file():
            problems.append(Problem(str(path), "a JSON file", "nothing", "run its rule first"))
            continue
        content = read_json(path)
        missing = ", ".join(key for key in keys if key not in content)
        if missing:
            found = ", ".join(content) or "an empty object"
            problems.append(Problem(str(path), f"the keys {missing}", found, "make it again"))
        contents.append(content)
    if problems:
        raise InputError(problems)
    return contents


def read_section(
    csv: Path, figures: Mapping[str, Path], page_folder: Path, rule: str, sources: Path | None
) -> Section:
    """Return one table with the files that lie beside it, its picture and where it is from."""
    values = read_values(csv)
    is_matrix = values[0].table == TRUST_MATRIX
    files = [path for suffix in SUFFIXES if (path := csv.with_suffix(suffix)).is_file()]
    return Section(
        system=values[0].system,
        table=values[0].table,
        blocks=blocks(values),
        links=tuple((path.name, relative(path, page_folder)) for path in files),
        figure=figures.get(csv.stem),
        rule=rule,
        sources=read_sources(sources) if sources else (),
        grid=trust_cells.grid(values) if is_matrix else None,
        note=trust_cells.legend_text() if is_matrix else "",
    )


def relative(path: Path, folder: Path) -> str:
    """Return the address of a file as seen from a page in `folder`."""
    return Path(os.path.relpath(path, folder)).as_posix()


def sheet_of(card: Path, sheets: Iterable[Path]) -> Path | None:
    """Return the picture that lies in the folder of a data set's card, or below."""
    return next((sheet for sheet in sheets if card.parent in sheet.parents), None)


def read_content(options: argparse.Namespace, ledger: Sequence[Mapping[str, str]]) -> Content:
    """Return everything that the page shows."""
    folder = options.page.parent
    figures = {path.stem: path for path in options.figures}
    sources = {path.name.removesuffix(SOURCES): path for path in options.sources}
    makers: Mapping[str, str] = json.loads(options.makers)
    sections = (
        read_section(path, figures, folder, makers.get(path.stem, ""), sources.get(path.stem))
        for path in options.tables
    )
    cards = zip(read_described(options.cards, CARD_KEYS), options.cards, strict=True)
    return Content(
        sections=tuple(sections),
        ledger=tuple(ledger),
        ledger_link=relative(options.ledger, folder),
        cards=tuple((card, sheet_of(path, options.sheets)) for card, path in cards),
        certificates=tuple(read_described(options.certificates, CERTIFICATE_KEYS)),
        pictures=tuple(sorted(options.pictures, key=lambda path: path.name)),
        provenance=read_json(options.provenance) if options.provenance else None,
        costs=rule_costs(options.benchmarks, options.logs, options.systems)
        if options.benchmarks
        else (),
        rule_graph=options.rule_graph,
    )


def arguments_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description="Make the overview of all results.")
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="tables in the long form",
    )
    for name, kind, what in (
        ("figures", "SVG", "pictures of the tables, named as these"),
        ("sources", "CSV", "predictions behind the tables, {table}.sources.csv"),
        ("cards", "JSON", "of the data sets"),
        ("sheets", "JPEG", "images of the data sets, in the folders of their cards"),
        ("certificates", "JSON", "of the checkpoints"),
        ("pictures", "PNG", "further figures, {system}_*.png"),
    ):
        parser.add_argument(f"--{name}", type=Path, nargs="*", default=[], metavar=kind, help=what)
    parser.add_argument("--makers", default="{}", help="JSON: the rule that makes each table")
    parser.add_argument(
        "--ledger", type=Path, required=True, metavar="CSV", help="printed numbers beside ours"
    )
    parser.add_argument("--provenance", type=Path, help="what made the results")
    parser.add_argument("--rule-graph", type=Path, help="SVG of which rule feeds which")
    parser.add_argument("--benchmarks", type=Path, help="folder of what the jobs used")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of their logs")
    parser.add_argument("--systems", nargs="*", default=[], help="whose folders lie in these")
    parser.add_argument("--page", type=Path, required=True, help="HTML page to write")
    parser.add_argument("--text", type=Path, required=True, help="plain text to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and the text."""
    options = arguments_parser().parse_args(arguments)
    content = read_content(options, read_csv(options.ledger, LEDGER_COLUMNS))
    write_text(options.page, page(content))
    places = {
        "everything": str(options.page),
        "tables": str(options.tables[0].parent),
        "ledger": str(options.ledger),
    }
    write_text(options.text, summary_text(content.sections, content.ledger, places))


if __name__ == "__main__":
    sys.exit(run(main))

"""One table of a paper from predictions: long-form CSV, Markdown, LaTeX.

Run by hand::

    python -m workflow_scripts.report.table --table ssl_transfer_few_shot \
        --predictions A.parquet B.parquet --csv T.csv --markdown T.md --latex T.tex

Protocols, rows and columns stand in the order in which the predictions are given. What each
column and interval means: docs/reference/tables.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.predictions import PHANTOM
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.report.cells import Cell, Resampling
from workflow_scripts.report.kinds import kind_named
from workflow_scripts.report.long_form import Value, write_values
from workflow_scripts.report.predictions import Header, read_headers
from workflow_scripts.report.rendering import blocks, latex, markdown, more_blocks
from workflow_scripts.report.sources import source_of, write_sources

log = logging.getLogger(__name__)
N_RESAMPLES = 1000  # ours: the percentile of a bound then wavers by about 0.7 %


def group_cells(table: str, headers: Sequence[Header]) -> tuple[Cell, ...]:
    """Return the predictions of each cell, by protocol, row and column of first appearance.

    Raises:
        InputError: a file of another table, two files of one seed of a cell, cells of one column
            with different kinds or metrics, phantoms beside real data.
    """
    problems = [
        Problem(str(h.path), f"table {table}", h.table, "give the predictions of one table")
        for h in headers
        if h.table != table
    ]
    problems += _disagreements(headers)
    cells: dict[tuple[str, str, str], dict[int, Header]] = {}
    for header in headers:
        seeds = cells.setdefault(header.cell, {})
        if header.seed in seeds:
            found = f"it in {seeds[header.seed].path} too"
            where = f"{header.path} ({' / '.join(header.cell)}, seed {header.seed})"
            problems.append(Problem(where, "each seed of a cell once", found, "give it once"))
        seeds[header.seed] = header
    if problems:
        raise InputError(problems)
    orders = [list(dict.fromkeys(h.cell[i] for h in headers)) for i in range(3)]
    places = {cell: [orders[i].index(name) for i, name in enumerate(cell)] for cell in cells}
    ordered = sorted(cells, key=places.__getitem__)
    return tuple(
        tuple(seeds[seed] for seed in sorted(seeds)) for seeds in map(cells.__getitem__, ordered)
    )


def _disagreements(headers: Sequence[Header]) -> list[Problem]:
    """Return where files that must agree with the first of their kind do not."""
    problems = []
    firsts: dict[tuple[str, ...], str] = {}
    for header in headers:
        is_phantom = "phantoms" if header.data == PHANTOM else "real data"
        for scope, found in (
            (("system of the table",), header.system),
            (("data of the table",), is_phantom),
            (("kind of column", header.column), header.kind),
            (("metric of column", header.column), header.metric),
            (("data of cell", *header.cell), header.data),
        ):
            expected = firsts.setdefault(scope, found)
            if found != expected:
                where = f"{header.path}, {' '.join(scope)}"
                problems.append(Problem(where, f"{expected} as before", found, "part the tables"))
    return problems


def make_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return the values of all cells; each kind of predictions works out its own."""
    kinds = dict.fromkeys(cell[0].kind for cell in cells)
    parts = ([cell for cell in cells if cell[0].kind == kind] for kind in kinds)
    return tuple(
        value
        for kind, part in zip(kinds, parts, strict=True)
        for value in kind_named(kind).table_values(part, resampling, jobs)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one table in its three forms."""
    parser = argparse.ArgumentParser(description="Make one table of a paper from predictions.")
    parser.add_argument("--table", required=True, help="its name, such as ssl_transfer_few_shot")
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="*",
        default=[],
        metavar="PARQUET",
        help="of all cells of the table",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the patient bootstrap")
    parser.add_argument(
        "--resamples", type=int, default=N_RESAMPLES, help="of the patient bootstrap; 0: none"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes; a cell is a unit of work")
    parser.add_argument("--csv", type=Path, required=True, help="long form to write")
    parser.add_argument("--markdown", type=Path, required=True, help="to write (.md)")
    parser.add_argument("--latex", type=Path, required=True, help="to write (.tex)")
    parser.add_argument("--sources", type=Path, help="CSV to write: the predictions of each cell")
    options = parser.parse_args(arguments)
    if not options.predictions:
        step = "name the predictions of the table; is the list in the rule empty?"
        raise refuse("--predictions", "at least one file", "none", step)
    for name, lowest in (("jobs", 1), ("resamples", 0)):
        if getattr(options, name) < lowest:
            found = str(getattr(options, name))
            raise refuse(f"--{name}", f"at least {lowest}", found, "correct the number")
    cells = group_cells(options.table, read_headers(options.predictions))
    values = make_values(cells, Resampling(options.seed, options.resamples), options.jobs)
    write_values(options.csv, values)
    rendered = blocks(values)
    write_text(options.markdown, markdown(options.table, (*rendered, *more_blocks(values))))
    write_text(options.latex, latex(options.table, rendered))
    if options.sources:
        write_sources(options.sources, [source_of(one) for cell in cells for one in cell])
    log.info("%s: %d cells, %d predictions", options.table, len(cells), len(options.predictions))


if __name__ == "__main__":
    sys.exit(run(main))

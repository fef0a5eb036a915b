"""The trust matrix: what the five papers never did together.

Run by hand::

    python -m workflow_scripts.report.trust_matrix --tables results/tables/*.csv \
        --predictions A.parquet B.parquet --csv T.csv --markdown T.md --latex T.tex --sources S.csv

A row is a model and what it was judged on, a column an aspect of trust. Nothing is trained: a
number is taken from a table, or worked out from predictions. What a row lacks stays empty. Rows
were judged on different data, so numbers compare down a column only within a system.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.files import sha256_of, write_text
from workflow_scripts.problems import refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Resampling, value_of
from workflow_scripts.report.ledger import read_tables
from workflow_scripts.report.long_form import Value, read_values, write_values
from workflow_scripts.report.metric_catalogue import METRICS
from workflow_scripts.report.predictions import Header, read_headers
from workflow_scripts.report.sources import Source, source_of, write_sources
from workflow_scripts.report.trust_cells import latex_table, markdown_page
from workflow_scripts.report.trust_columns import (
    CALIBRATION_ID,
    CALIBRATION_OOD,
    COLUMNS,
    CORRUPTION,
    DOUBT,
    DROP,
    FEWEST_PATIENTS,
    GAP,
    ID,
    LADDER,
    OOD,
    TABLE,
)
from workflow_scripts.report.trust_measures import (
    Draw,
    Estimate,
    Seeds,
    calibration,
    drop,
    estimate,
    group_gap,
    performances,
    telling_errors,
)
from workflow_scripts.report.trust_subjects import Copy, Subject, subjects

log = logging.getLogger(__name__)
NO_BOUNDS = (math.nan, math.nan)
Key = tuple[str, str, str, str, str]  # table, protocol, row, column, metric


class Found(NamedTuple):
    """A value of the matrix and the files behind it."""

    value: Value
    sources: tuple[Source, ...]


class Known(NamedTuple):
    """The values of the tables, and the file of each table."""

    values: Mapping[Key, Value]
    paths: Mapping[str, Path]


def matrix(found: Sequence[Subject], known: Known, resampling: Resampling) -> list[Found]:
    """Return all values, row by row, in the order of COLUMNS."""
    values: list[Found] = []
    for subject in found:
        cells = list(copied(subject, known))
        done = {(one.value.column, one.value.metric) for one in cells}
        cells += [
            one
            for one in worked_out(subject, resampling, done)
            if (one.value.column, one.value.metric) not in done
        ]
        cells = [one._replace(value=with_enough(subject, one.value)) for one in cells]
        values += sorted(cells, key=lambda one: COLUMNS.index(one.value.column))
    return values


def with_enough(subject: Subject, value: Value) -> Value:
    """Return a value without its interval where that rests on too few patients."""
    sides = {OOD: [subject.outside], CALIBRATION_OOD: [subject.outside],
             DROP: [subject.inside, subject.outside], CORRUPTION: [subject.artefacts]}  # fmt: skip
    behind = [seeds for seeds in sides.get(value.column, [subject.inside]) if seeds]
    n_patients = min((len(set(seeds[0].patients)) for seeds in behind), default=0)
    if n_patients >= FEWEST_PATIENTS:
        return value
    return replace(value, ci_low=math.nan, ci_high=math.nan, interval="none")


def copied(subject: Subject, known: Known) -> Iterator[Found]:
    """Yield the values that stand in tables; one that does not is left empty."""
    for copy in subject.copies:
        path = known.paths.get(copy.table)
        if path is None:
            step = f"make it (rule table), or leave the predictions of {subject.name} out"
            raise refuse("--tables", f"the table {copy.table}", "it is missing", step)
        source = Source(
            subject.protocol, subject.name, copy.to, "", path.as_posix(), sha256_of(path)
        )
        found = list(_copies(subject, copy, known.values))
        if copy.to == ID and not found:
            expected, step = f"{copy.row} / {copy.column}", "make the table from these predictions"
            raise refuse(str(path), expected, f"no such cell, protocol {subject.protocol}", step)
        yield from (Found(value, (source,)) for value in found)


def _copies(subject: Subject, copy: Copy, values: Mapping[Key, Value]) -> Iterator[Value]:
    for metric, name in copy.metrics.items():
        value = values.get((copy.table, subject.protocol, copy.row, copy.column, metric))
        if value is not None:
            yield replace(
                value, system=TABLE, table=TABLE, row=subject.name, column=copy.to, metric=name
            )


def worked_out(
    subject: Subject, resampling: Resampling, done: Collection[tuple[str, str]]
) -> Iterator[Found]:
    """Yield the values that are worked out from predictions.

    Args:
        subject: the row.
        resampling: of bootstrap and permutations.
        done: columns and metrics that are known already: a gap among them is not permuted again.
    """
    inside, n = subject.inside, resampling.resamples
    draw = partial(_draw, resampling.seed, inside)
    yield from _drops(subject, draw, n)
    for column, seeds in ((CALIBRATION_ID, inside), (CALIBRATION_OOD, subject.outside)):
        if seeds and seeds[0].chance.shape[1] and n:
            yield from _calibrations(subject, column, seeds, draw, n)
    for group, column in GAP.items():
        name = f"{inside[0].measure}_gap"
        gap = group_gap(inside, group, draw, n) if n and (column, name) not in done else None
        if gap is not None:
            numbers = {name: gap.size, f"{name}_null": gap.null.mean, f"{name}_p": gap.null.p_value}
            for metric, number in numbers.items():
                yield _found(subject, column, inside, metric, [number] * len(inside), gap.n)
    if len(inside[0].wrong):
        errors = telling_errors(inside, draw, n)
        yield _estimated(subject, DOUBT, inside, "error_auc", errors)


def _drops(subject: Subject, draw: Draw, n_resamples: int) -> Iterator[Found]:
    """Yield what is lost outside, where no table says it, and with artefacts."""
    inside, outside, artefacts = subject.inside, subject.outside, subject.artefacts
    name = f"{inside[0].measure}_drop"
    is_copied = any(copy.to == DROP for copy in subject.copies)
    if outside and not is_copied and outside[0].measure == inside[0].measure:
        lost = drop(inside, outside, draw, n_resamples)
        yield _estimated(subject, DROP, (*inside, *outside), name, lost)
    if artefacts:
        left = estimate(
            performances(artefacts), artefacts[0].patients, draw("artefacts"), n_resamples
        )
        yield _estimated(subject, CORRUPTION, artefacts, inside[0].measure, left)
        lost = drop(inside, artefacts, draw, n_resamples)
        yield _estimated(subject, CORRUPTION, (*inside, *artefacts), name, lost)


def _calibrations(
    subject: Subject, column: str, seeds: Seeds, draw: Draw, n_resamples: int
) -> Iterator[Found]:
    """Yield the ECE beside what a calibrated forecast would have."""
    error, null = calibration(seeds, draw, n_resamples)
    yield _estimated(subject, column, seeds, "ece", error)
    for metric, number in (("ece_null", null.mean), ("ece_p", null.p_value)):
        yield _found(subject, column, seeds, metric, [number] * len(seeds), error.n)


def _estimated(subject: Subject, column: str, seeds: Seeds, metric: str, one: Estimate) -> Found:
    bounds = (one.interval.low, one.interval.high)
    return _found(subject, column, seeds, metric, one.per_seed, one.n, bounds)


def _found(
    subject: Subject, column: str, seeds: Seeds, metric: str, per_seed: Sequence[float], n: int,
    bounds: tuple[float, float] = NO_BOUNDS,
) -> Found:  # fmt: skip
    """Return a value with its sources; `seeds` may be of several test sets, the first one's first.

    The interval is of the mean over the seeds.
    """
    headers = [one.header for one in seeds]
    kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
    value = value_of(headers[: len(per_seed)], metric, per_seed, bounds, n, kind)
    named = replace(value, system=TABLE, table=TABLE, row=subject.name, column=column)
    if metric.endswith(("_null", "_p")):  # one number for all seeds
        named = replace(named, seed_std=math.nan)
    sources = tuple(
        source_of(header)._replace(row=subject.name, column=column) for header in headers
    )
    return Found(named, sources)


def _draw(seed: int, seeds: Seeds, purpose: str) -> np.random.Generator:
    """Return a stream without the row's name: models of one test set meet the same patients."""
    header = seeds[0].header
    return named_rng(seed, TABLE, purpose, header.table, header.protocol, header.column)


def known_values(paths: Sequence[Path]) -> Known:
    """Return the values of tables by what they are, and where each table lies."""
    values = read_tables(paths)
    by_key = {(v.table, v.protocol, v.row, v.column, v.metric): v for v in values}
    return Known(by_key, {read_values(path)[0].table: path for path in paths})


def rows_of(headers: Sequence[Header], known: Known) -> list[Subject]:
    """Return the rows of the matrix; of the cooperative networks, those with a ladder."""
    ladders = {(protocol, row) for table, protocol, row, *_ in known.values if table == LADDER}
    return subjects(headers, lambda protocol, row: (protocol, row) in ladders)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the trust matrix in its three forms, and the list of its sources."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tables", type=Path, nargs="*", default=[], metavar="CSV", help="tables in the long form"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="*",
        default=[],
        metavar="PARQUET",
        help="of the systems whose numbers are worked out here",
    )
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap and permutations")
    parser.add_argument("--resamples", type=int, default=1000, help="of both; 0: none")
    parser.add_argument("--csv", type=Path, required=True, help="long form to write")
    parser.add_argument("--markdown", type=Path, required=True, help="to write (.md)")
    parser.add_argument("--latex", type=Path, required=True, help="to write (.tex)")
    parser.add_argument("--sources", type=Path, required=True, help="files behind each cell, CSV")
    given = parser.parse_args(arguments)
    if given.resamples < 0:
        raise refuse("--resamples", "at least 0", str(given.resamples), "correct the number")
    if not given.predictions:
        raise refuse("--predictions", "at least one file", "none", "name those of the systems")
    known = known_values(given.tables)
    rows = rows_of(read_headers(given.predictions), known)
    found = matrix(rows, known, Resampling(given.seed, given.resamples))
    values = [one.value for one in found]
    if not values:
        raise refuse("--predictions", "a model to judge", "none", "give a system's predictions")
    unknown = {value.metric for value in values} - set(METRICS)
    if unknown:
        raise refuse("metrics", "metrics of the catalogue", ", ".join(sorted(unknown)), "add them")
    write_values(given.csv, values)
    write_text(given.markdown, markdown_page(values))
    write_text(given.latex, latex_table(values))
    write_sources(given.sources, dict.fromkeys(s for one in found for s in one.sources))
    log.info("%d rows, %d values", len(rows), len(values))


if __name__ == "__main__":
    sys.exit(run(main))

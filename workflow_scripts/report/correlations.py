"""What goes together with transfer: correlations over checkpoints, and averages by domain.

Run by hand::

    python -m workflow_scripts.report.correlations --tables results/tables/ssl_transfer_*.csv \
        --analysis '{"imagenet_top1": {"byol": 0.743}, "in_domain": [["few_shot", "bach 2-way"]],
        "out_of_domain": []}' --out results/tables

Writes `ssl_transfer_correlations` and `ssl_transfer_domain_averages` as CSV, Markdown and LaTeX.
A point is a checkpoint, so there are few of them and many pairs: the interval of a single r is
wide, and among a hundred pairs without any connection five have p below 0.05.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.metrics.correlation import fit_line, min_max_scaled, pearson
from workflow_scripts.problems import InputError, Problem, nearest, refuse
from workflow_scripts.report.long_form import PROTOCOLS, Value, write_values
from workflow_scripts.report.rendering import blocks, latex, markdown
from workflow_scripts.report.transfer_points import (
    SYSTEM,
    Points,
    by_column,
    first_values,
    read_system,
    transfer_points,
)

CORRELATIONS, AVERAGES = f"{SYSTEM}_correlations", f"{SYSTEM}_domain_averages"
DOMAINS = ("in_domain", "out_of_domain")
NOTHING = (math.nan, math.nan)


def correlation_values(points: Points) -> tuple[Value, ...]:
    """Return r with its interval, p, and the line's slope and reduced chi2 of some points."""
    r = pearson(points.x, points.y)
    line = fit_line(points.x, points.y, points.errors)
    spread = 1.96 * line.slope_error
    rows = (
        ("pearson_r", r.r, (r.low, r.high), "none" if math.isnan(r.low) else "fisher"),
        ("p_value", r.p_value, NOTHING, "none"),
        ("slope", line.slope, (line.slope - spread, line.slope + spread), "normal"),
        ("reduced_chi2", line.reduced_chi2, NOTHING, "none"),
    )
    return tuple(
        Value(
            system=SYSTEM, table=CORRELATIONS, row=points.column, column=points.predictor,
            metric=metric, value=value, ci_low=bounds[0], ci_high=bounds[1], n=r.n, seeds=1,
            data=points.data, protocol=points.protocol, interval=interval, seed_std=math.nan,
        )
        for metric, value, bounds, interval in rows
    )  # fmt: skip


def domain_averages(
    values: Sequence[Value], domains: Mapping[str, Sequence[Sequence[str]]]
) -> tuple[Value, ...]:
    """Return each checkpoint's mean of scaled accuracies in and out of domain.

    Each column is scaled so that its worst checkpoint has 0 and its best 1. A checkpoint that
    lacks one of the columns is undefined.

    Args:
        values: of the transfer tables.
        domains: for each of `DOMAINS` its columns, as pairs (table, column).

    Raises:
        InputError: a column that no protocol has.

    Source: SSL transfer, released notebook (golden `analysis_scaled_average`).
    """
    wanted = {domain: [" ".join(pair) for pair in pairs] for domain, pairs in domains.items()}
    found = {p: by_column(v for v in first_values(values) if v.protocol == p) for p in PROTOCOLS}
    known = [name for columns in found.values() for name in columns]
    unknown = [name for names in wanted.values() for name in names if name not in known]
    if unknown:
        raise InputError(
            Problem(f"column {name!r}", "a column of a table", "none", nearest(name, known))
            for name in unknown
        )
    averages = []
    for protocol, columns in found.items():
        for domain, names in wanted.items():
            if names and all(name in columns for name in names):
                averages += _averages(protocol, domain, [columns[name] for name in names])
    return tuple(averages)


def _averages(protocol: str, domain: str, columns: Sequence[Sequence[Value]]) -> list[Value]:
    """Return the scaled averages of one domain."""
    rows = list(dict.fromkeys(value.row for column in columns for value in column))
    scaled = []
    for column in columns:
        numbers = {value.row: value.value for value in column}
        scaled.append(min_max_scaled([numbers.get(row, math.nan) for row in rows]))
    cells = [value for column in columns for value in column]
    data = next((v.data for v in cells if v.is_phantom or v.is_untrained), "several")
    return [
        Value(
            system=SYSTEM, table=AVERAGES, row=row, column=domain, metric="scaled_average",
            value=value, ci_low=math.nan, ci_high=math.nan, n=len(columns), seeds=1, data=data,
            protocol=protocol, interval="none", seed_std=math.nan,
        )
        for row, value in zip(rows, np.mean(scaled, axis=0).tolist(), strict=True)
    ]  # fmt: skip


def parse_analysis(text: str) -> dict[str, Any]:
    """Return the section `analysis` of the configuration from its JSON text."""
    content: dict[str, Any] = json.loads(text)
    missing = {"imagenet_top1", *DOMAINS} - set(content)
    if missing:
        found, step = ", ".join(content) or "nothing", "give the section of config.yaml as JSON"
        raise refuse("--analysis", f"the keys {', '.join(sorted(missing))}", found, step)
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both tables in their three forms."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="tables in the long form",
    )
    parser.add_argument("--analysis", required=True, help="section of the configuration, JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    given = parser.parse_args(arguments)
    analysis, values = parse_analysis(given.analysis), read_system(given.tables)
    points = transfer_points(values, analysis["imagenet_top1"])
    domains = {name: analysis[name] for name in DOMAINS}
    if not points and not any(domains.values()):
        step = "name the tables of few_shot, linear or finetune"
        raise refuse("--tables", "a transfer table", "none with a predictor", step)
    correlations = [value for one in points for value in correlation_values(one)]
    averages = domain_averages(values, domains)
    for table, rows in ((CORRELATIONS, correlations), (AVERAGES, averages)):
        if table == CORRELATIONS and not rows:
            continue  # no checkpoint has a predictor: the averages alone
        write_values(given.out / f"{table}.csv", rows)
        rendered = blocks(rows)
        write_text(given.out / f"{table}.md", markdown(table, rendered))
        write_text(given.out / f"{table}.tex", latex(table, rendered))


if __name__ == "__main__":
    sys.exit(run(main))

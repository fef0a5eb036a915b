"""Step: write the reference page of the metrics from the catalogue."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.report.metric_catalogue import METRICS, SHOWN_METRICS, Metric, row_title

HEAD = """\
# Metrics: every name of the tables

Made from `workflow_scripts/report/metric_catalogue.py`; do not edit it by hand but run

```bash
python -m workflow_scripts.report.metrics_page --out docs/reference/metrics.md
```

Definitions, and when a value is undefined: [tables](tables.md#metrics). A CSV holds the stored
value; Markdown, LaTeX and figures show it in the printed unit. The better value of a column is
bold; where neither direction is better, nothing is.
"""
SHOWN = """\
## What a table shows

A table shows the first metric of each cell, which is the paper's; these show more:

| table | rows | metrics shown |
|---|---|---|
"""
ALL = """\
## The catalogue

| metric | heading | better | stored range | decimals printed |
|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the page to write (.md)")
    write_text(parser.parse_args(arguments).out, page())


def page() -> str:
    """Return the page as Markdown."""
    shown = [
        f"| `{table}` | {row_title(table)} | {', '.join(f'`{one}`' for one in metrics)} |\n"
        for table, metrics in SHOWN_METRICS.items()
    ]
    rows = [row(name, metric) for name, metric in METRICS.items()]
    return "".join([HEAD, "\n", SHOWN, *shown, "\n", ALL, *rows])


def row(name: str, metric: Metric) -> str:
    """Return a metric's line.

    >>> row("ece", Metric("mean ECE", "lower"))
    '| `ece` | mean ECE (%) | lower | 0 to 1 | 2 |\\n'
    """
    heading = metric.heading.replace("|", r"\|")
    span = f"{end(metric.low)} to {end(metric.high)}"
    return f"| `{name}` | {heading} | {metric.better} | {span} | {metric.decimals} |\n"


def end(value: float) -> str:
    """Return an end of a range."""
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return f"{value:g}"


if __name__ == "__main__":
    sys.exit(run(main))

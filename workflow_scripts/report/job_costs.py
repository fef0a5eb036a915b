"""What the jobs of each rule used, from the benchmark files of a run."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.report.measured_jobs import MIB_TO_MB, WARM


@dataclass(frozen=True, slots=True)
class RuleCost:
    """What the jobs of one rule used together.

    Attributes:
        rule: its name, with the system in front where it has one.
        jobs: measured.
        seconds: elapsed, of all jobs; a job measured several times counts with the mean.
        longest_s: of one job.
        memory_mb: most of any job; None where no file says it.
    """

    rule: str
    jobs: int
    seconds: float
    longest_s: float
    memory_mb: float | None


def rule_costs(folder: Path, logs: Path, systems: Collection[str]) -> tuple[RuleCost, ...]:
    """Return what each rule used, the most expensive first.

    Args:
        folder: of the benchmark files, `{rule}/...tsv` or `{system}/{rule}/...tsv`.
        logs: of the logs, laid out alike; a step forked from the warm process tells its memory
            there.
        systems: names of the systems.
    """
    jobs: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        parts = path.relative_to(folder).with_suffix("").parts
        rule = "/".join(parts[: 2 if parts[0] in systems else 1])
        log = logs / path.relative_to(folder).with_suffix(".log")
        jobs.setdefault(rule, []).append(_used(path, log))
    costs = (
        RuleCost(
            rule=rule,
            jobs=len(uses),
            seconds=sum(seconds for seconds, _ in uses),
            longest_s=max(seconds for seconds, _ in uses),
            memory_mb=max((peak for _, peak in uses if peak is not None), default=None),
        )
        for rule, uses in jobs.items()
    )
    return tuple(sorted(costs, key=lambda cost: (-cost.seconds, cost.rule)))


def _used(path: Path, log: Path) -> tuple[float, float | None]:
    """Return the seconds and the peak memory (MB) of one job."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    seconds = [float(row["s"]) for row in rows]
    if log.is_file() and (told := WARM.findall(log.read_text(errors="replace"))):
        return sum(seconds) / max(len(seconds), 1), float(told[-1][1]) * MIB_TO_MB
    peaks = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")]
    peak = max(peaks) * MIB_TO_MB if peaks else None
    return sum(seconds) / max(len(seconds), 1), peak

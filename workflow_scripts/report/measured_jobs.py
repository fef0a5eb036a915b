"""What jobs that ran have used: Snakemake's benchmark files, step logs and output sizes.

A step forked from the warm process leaves a benchmark file whose time is right and whose memory
is the small caller's; its own figures are then the last line of its log.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.report.planned_jobs import PlannedJob

WARM = re.compile(r"^used ([\d.]+) CPU-s, (\d+) MiB at most$", re.MULTILINE)
MIB_TO_MB = 2**20 / 1e6


@dataclass(frozen=True, slots=True)
class Use:
    """What one job used; None where it is not known.

    Attributes:
        seconds: elapsed.
        memory_mb: most at any time.
        bytes: of its outputs.
        images: of its data set.
    """

    seconds: float
    memory_mb: float | None
    bytes: int
    images: int | None


def measured(job: PlannedJob, images: Mapping[str, int]) -> Use | None:
    """Return what a finished job used, or None if it has not run or was not measured.

    Args:
        job: of a plan.
        images: by data set.
    """
    outputs = [Path(path) for path in job.outputs]
    if not job.benchmark or not Path(job.benchmark).is_file():
        return None
    if not all(path.is_file() for path in outputs):
        return None
    with Path(job.benchmark).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    seconds = statistics.median(float(row["s"]) for row in rows)
    memory = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")]
    peak = max(memory) * MIB_TO_MB if memory else None
    for log in map(Path, job.log):
        if log.is_file() and (told := WARM.findall(log.read_text(errors="replace"))):
            peak = float(told[-1][1]) * MIB_TO_MB
    size = sum(path.stat().st_size for path in outputs)
    return Use(seconds, peak, size, images.get(job.wildcards.get("dataset", "")))


def images_by_dataset(jobs: Iterable[PlannedJob]) -> dict[str, int]:
    """Return the images of each data set whose card has been made."""
    found = {}
    for job in jobs:
        cards = [Path(path) for path in job.outputs if Path(path).name == "card.json"]
        if cards and cards[0].is_file() and "dataset" in job.wildcards:
            flow = json.loads(cards[0].read_text(encoding="utf-8"))["flow"]
            found[job.wildcards["dataset"]] = int(flow[-1]["images"])
    return found


def scaled(uses: Sequence[Use], images: int) -> Use | None:
    """Return what a job of `images` images would use, from like jobs; None without any.

    Time and output size grow with the number of images (the median rate of the like jobs);
    memory is the largest seen, as steps work through their images in batches.
    """
    known = [(use, use.images) for use in uses if use.images]
    if not known:
        return None
    seconds = statistics.median(use.seconds / count for use, count in known) * images
    size = statistics.median(use.bytes / count for use, count in known) * images
    peaks = [use.memory_mb for use, _ in known if use.memory_mb is not None]
    return Use(seconds, max(peaks, default=None), int(size), images)

"""What a target will cost, before it is submitted; and how far off the forecast was, after.

    python -m workflow_scripts.report.cost all --profile profiles/leonardo --out cost.json
    python -m workflow_scripts.report.cost --compare cost.json

Jobs, partitions and groups come from Snakemake's own plan under the profile. Time, memory and
disk of a job come from, in this order: its own earlier run; earlier runs of its rule, scaled by
the number of images; what the rule declares (an upper limit, not an expectation). The table says
how many jobs rest on which. A scaled time is cut at the declared limit; it rests on a straight
line through nothing, so that of tiny runs (the demo's) it is too long rather than too short. A run
without a GPU says nothing of a job with one: the demo trains small networks for a few steps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, write_json
from workflow_scripts.problems import refuse
from workflow_scripts.report.measured_jobs import Use, images_by_dataset, measured, scaled
from workflow_scripts.report.planned_jobs import ROOT, PlannedJob, plan_jobs

MEASURED, SCALED, DECLARED = "measured", "scaled", "declared"
DEMO = ["all", "-F", "--profile", "profiles/demo"]


@dataclass(frozen=True, slots=True)
class Billing:
    """How a cluster counts core-hours: the largest share of a node, in cores.

    Source of the rule: docs/reference/leonardo.md. Elsewhere: cores alone.
    """

    cores_per_node: int = 0
    cores_per_gpu: int = 0
    memory_mb_per_node: int = 0

    def cores(self, job: PlannedJob) -> float:
        """Return the cores that a job is billed.

        >>> no = PlannedJob("x", {}, (), (), "", (), 8, {"gpu": 2, "mem_mb": 1}, "", False)
        >>> Billing(32, 8, 494000).cores(no), Billing().cores(no)
        (16.0, 8.0)
        """
        nodes = max(1, job.number("nodes"))
        tasks = max(1, job.number("tasks"))
        shares = [float(job.threads * tasks), float(self.cores_per_gpu * gpus_of(job))]
        if self.memory_mb_per_node:
            share = job.number("mem_mb") / self.memory_mb_per_node
            shares.append(nodes * share * self.cores_per_node)
        return max(shares)


def gpus_of(job: PlannedJob) -> int:
    """Return the GPUs of a job on all its nodes, asked for as `gpu` or as `gres: gpu:N`."""
    kind, _, count = str(job.resources.get("gres", "")).rpartition(":")
    per_node = int(count) if kind.startswith("gpu") and count.isdigit() else 0
    return job.number("gpu") or per_node * max(1, job.number("nodes"))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one job is expected to use.

    Attributes:
        job: name with wildcards.
        rule: its rule.
        submission: the scheduler's job it belongs to; empty for a local one.
        basis: measured, scaled or declared.
        hours: elapsed.
        gpu_hours, core_hours: as billed; 0 for a local job.
        memory_mb: peak, or what is declared.
        bytes: of the outputs; None where nothing is known.
        benchmark, log, outputs: where the comparison afterwards looks.
    """

    job: str
    rule: str
    submission: str
    basis: str
    hours: float
    gpu_hours: float
    core_hours: float
    memory_mb: float
    bytes: int | None
    benchmark: str
    log: Sequence[str]
    outputs: Sequence[str]


def forecast(
    jobs: Iterable[PlannedJob],
    seen: Mapping[str, Sequence[tuple[PlannedJob, Use]]],
    images: Mapping[str, int],
    billing: Billing,
) -> list[Forecast]:
    """Forecast each job.

    Args:
        jobs: of the plan; collecting rules without output are left out.
        seen: by rule, the jobs that ran, with what they used.
        images: by data set, where its card is there.
        billing: the cluster's rule.
    """
    return [_forecast(job, seen.get(job.rule, ()), images, billing) for job in jobs if job.outputs]


def _forecast(
    job: PlannedJob,
    seen: Sequence[tuple[PlannedJob, Use]],
    images: Mapping[str, int],
    billing: Billing,
) -> Forecast:
    """Forecast one job from what jobs of its rule have used."""
    use, basis = _expected(job, seen, images.get(job.wildcards.get("dataset", "")))
    limit_h = job.number("runtime") / 60
    hours = limit_h if use is None else use.seconds / 3600
    if basis == SCALED and limit_h:
        hours = min(hours, limit_h)
    peak = use.memory_mb if use else None
    billed_h = 0.0 if job.is_local else hours
    return Forecast(
        job=job.name,
        rule=job.rule,
        submission="" if job.is_local else job.group or job.name,
        basis=basis,
        hours=hours,
        gpu_hours=billed_h * gpus_of(job),
        core_hours=billed_h * billing.cores(job),
        memory_mb=float(job.number("mem_mb")) if peak is None else peak,
        bytes=use.bytes if use else None,
        benchmark=job.benchmark,
        log=job.log,
        outputs=job.outputs,
    )


def _expected(
    job: PlannedJob, seen: Sequence[tuple[PlannedJob, Use]], images: int | None
) -> tuple[Use | None, str]:
    """Return what a job should use, and what that rests on."""
    for other, use in seen:
        if (other.name, other.benchmark) == (job.name, job.benchmark):
            return use, MEASURED
    on_the_same = [use for other, use in seen if gpus_of(other) == gpus_of(job)]
    like = scaled(on_the_same, images) if images else None
    return (like, SCALED) if like else (None, DECLARED)


def history(plans: Iterable[Sequence[PlannedJob]]) -> dict[str, list[tuple[PlannedJob, Use]]]:
    """Return, by rule, the jobs of these plans that ran, with what they used."""
    seen: dict[str, list[tuple[PlannedJob, Use]]] = {}
    for jobs in plans:
        images = images_by_dataset(jobs)
        for job in jobs:
            use = measured(job, images)
            if use is not None:
                seen.setdefault(job.rule, []).append((job, use))
    return seen


def printed(rows: Sequence[Forecast]) -> str:
    """Return one line a rule, and the totals."""
    head = ("rule", "jobs", "submissions", "GPU-h", "core-h", "disk GB", "peak MB", "rests on")
    rules = dict.fromkeys(row.rule for row in rows)
    body = [_line(rule, [row for row in rows if row.rule == rule]) for rule in rules]
    lines: list[tuple[str, ...]] = [head, *body, _line("total", rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    unknown = sum(row.bytes is None for row in rows)
    note = f"\ndisk of {unknown} jobs is not known yet and not counted" if unknown else ""
    return f"{text}\ndeclared: the rule's limit, an upper bound{note}\n"


def _line(name: str, rows: Sequence[Forecast]) -> tuple[str, ...]:
    known = [row.bytes for row in rows if row.bytes is not None]
    basis = [f"{sum(row.basis == one for row in rows)} {one}" for one in
             (MEASURED, SCALED, DECLARED) if any(row.basis == one for row in rows)]  # fmt: skip
    return (
        name,
        str(len(rows)),
        str(len({row.submission for row in rows} - {""})),
        f"{sum(row.gpu_hours for row in rows):.2f}",
        f"{sum(row.core_hours for row in rows):.2f}",
        f"{sum(known) / 1e9:.3f}" if known else "?",
        f"{max((row.memory_mb for row in rows), default=0):.0f}",
        ", ".join(basis),
    )


def compared(rows: Sequence[Forecast]) -> str:
    """Return forecast against use, a line a rule, of the jobs that have run since."""
    lines = [f"{'rule':<20} {'ran':>9} {'hours':>18} {'peak MB':>15} {'disk GB':>17}"]
    for rule in dict.fromkeys(row.rule for row in rows):
        mine = [row for row in rows if row.rule == rule]
        pairs = [(row, use) for row in mine if (use := _use_of(row)) is not None]
        if not pairs:
            lines.append(f"{rule:<20} {f'0/{len(mine)}':>9}")
            continue
        hours = sum(row.hours for row, _ in pairs), sum(use.seconds for _, use in pairs) / 3600
        peak = max(row.memory_mb for row, _ in pairs), max(u.memory_mb or 0 for _, u in pairs)
        size = sum(r.bytes or 0 for r, _ in pairs) / 1e9, sum(u.bytes for _, u in pairs) / 1e9
        lines.append(
            f"{rule:<20} {f'{len(pairs)}/{len(mine)}':>9} {hours[0]:8.3f} -> {hours[1]:6.3f}"
            f" {peak[0]:6.0f} -> {peak[1]:5.0f} {size[0]:7.3f} -> {size[1]:6.3f}"
        )
    return "\n".join([*lines, "forecast -> used"]) + "\n"


def _use_of(row: Forecast) -> Use | None:
    job = PlannedJob(row.rule, {}, (), tuple(row.outputs), row.benchmark, tuple(row.log), 1,
                     {}, "", is_local=False)  # fmt: skip
    return measured(job, {})


def billing_of(profile: str | None) -> Billing:
    """Return the billing rule beside a profile; without one, cores alone are counted."""
    import yaml

    file = ROOT / (profile or "") / "billing.yaml"
    if profile is None or not file.is_file():
        return Billing()
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Billing(**{field.name: content[field.name] for field in fields(Billing)})


def read_forecast(file: Path) -> list[Forecast]:
    """Return a stored forecast."""
    if not file.is_file():
        step = "make one with --out before submitting"
        raise refuse(str(file), "a forecast", "no such file", step)
    rows: list[dict[str, Any]] = read_json(file)["jobs"]
    return [Forecast(**row) for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a forecast, or a comparison."""
    parser = argparse.ArgumentParser(description="Forecast what a target costs, or compare.")
    parser.add_argument("target", nargs="*", help="rules or files; default: all")
    parser.add_argument("--profile", default="profiles/leonardo", help="decides the resources")
    parser.add_argument("--configfile", nargs="+", default=[], help="laid over config.yaml")
    parser.add_argument("--out", type=Path, help="JSON file to write the forecast to")
    parser.add_argument("--compare", type=Path, help="compare this forecast with what was used")
    options = parser.parse_args(arguments)
    if options.compare:
        sys.stdout.write(compared(read_forecast(options.compare)))
        return
    words = [*(options.target or ["all"]), "--profile", options.profile]
    words += ["--configfile", *options.configfile] if options.configfile else []
    everything = plan_jobs([*words, "-F"])
    seen = history([everything, plan_jobs(DEMO)])
    to_run = plan_jobs(words)
    rows = forecast(to_run, seen, images_by_dataset(everything), billing_of(options.profile))
    sys.stdout.write(printed(rows) if rows else "nothing to be done\n")
    if options.out:
        write_json(options.out, {"jobs": [json.loads(json.dumps(asdict(row))) for row in rows]})


if __name__ == "__main__":
    sys.exit(run(main))

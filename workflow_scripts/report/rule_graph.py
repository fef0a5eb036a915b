"""Draw the rule graph of a plan as SVG: which rule feeds which, and where each runs.

    python -m workflow_scripts.report.rule_graph all training_smoke --out docs/dag.svg

Needs neither graphviz nor a browser; equal plans give equal files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.report.cost import gpus_of
from workflow_scripts.report.planned_jobs import PlannedJob, plan_jobs

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 212, 34, 18, 46, 12  # pixels; a name of 31 letters fits
GPU, CPU, LOCAL = "#f4c7a1", "#cfe0f3", "#eeeeee"
NAMES = {GPU: "on a GPU", CPU: "submitted", LOCAL: "where Snakemake runs"}


def edges_of(jobs: Sequence[PlannedJob]) -> set[tuple[str, str]]:
    """Return the pairs (rule, rule that reads a file of it)."""
    maker = {path: job.rule for job in jobs for path in job.outputs}
    return {
        (maker[path], job.rule)
        for job in jobs
        for path in job.inputs
        if path in maker and maker[path] != job.rule
    }


def first_depths(jobs: Sequence[PlannedJob]) -> dict[str, int]:
    """Return for each rule how many jobs, one after another, its first job waits for."""
    maker = {path: number for number, job in enumerate(jobs) for path in job.outputs}
    behind = [{maker[path] for path in job.inputs if path in maker} for job in jobs]
    depth = [0] * len(jobs)
    for _ in jobs:  # a longest path has fewer edges than there are jobs
        deeper = [max((depth[one] + 1 for one in before), default=0) for before in behind]
        if deeper == depth:
            break
        depth = deeper
    found: dict[str, int] = {}
    for job, own in zip(jobs, depth, strict=True):
        found[job.rule] = min(found.get(job.rule, own), own)
    return found


def forward(edges: set[tuple[str, str]], first: Mapping[str, int]) -> set[tuple[str, str]]:
    """Return the edges without those that lead back to a rule that runs earlier.

    Jobs never form a circle, rules may: a manifest is made of corrupted copies, which are made
    from a manifest.

    Args:
        edges: pairs of rules.
        first: `first_depths`.
    """
    after: dict[str, set[str]] = {}
    for start, end in edges:
        after.setdefault(start, set()).add(end)

    def reaches(start: str, goal: str) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            new = after.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return goal in seen

    return {
        (start, end)
        for start, end in edges
        if (first[start], start) < (first[end], end) or not reaches(end, start)
    }


def layers_of(rules: Sequence[str], edges: set[tuple[str, str]]) -> list[list[str]]:
    """Return the rules in layers: each below everything that it reads from.

    Args:
        rules: their names.
        edges: pairs of rules without a circle.
    """
    depth = dict.fromkeys(rules, 0)
    for _ in rules:  # a longest path has fewer edges than there are rules
        for before, after in sorted(edges):
            depth[after] = max(depth[after], depth[before] + 1)
    return [
        sorted(rule for rule in rules if depth[rule] == layer)
        for layer in range(max(depth.values()) + 1)
    ]


def svg(jobs: Sequence[PlannedJob]) -> str:
    """Return the drawing."""
    rules = sorted({job.rule for job in jobs})
    edges = edges_of(jobs)
    layers = layers_of(rules, forward(edges, first_depths(jobs)))
    columns = max(len(layer) for layer in layers)
    width = 2 * MARGIN + columns * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + len(layers) * (HEIGHT + GAP_Y)
    places = {}
    for row, layer in enumerate(layers):
        left = (width - len(layer) * (WIDTH + GAP_X) + GAP_X) / 2
        for column, rule in enumerate(layer):
            places[rule] = (left + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        "<title>Which rule feeds which</title>",
        *(_arrow(places[before], places[after]) for before, after in sorted(edges)),
        *(_box(places[rule], rule, _colour(rule, jobs)) for rule in rules),
        *_legend(height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _colour(rule: str, jobs: Sequence[PlannedJob]) -> str:
    mine = [job for job in jobs if job.rule == rule]
    if mine[0].is_local:
        return LOCAL
    return GPU if any(gpus_of(job) for job in mine) else CPU


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y = start[0] + WIDTH / 2, start[1] + HEIGHT
    to_x, to_y = end[0] + WIDTH / 2, end[1]
    middle = (y + to_y) / 2
    curve = f"M{x:.0f},{y:.0f} C{x:.0f},{middle:.0f} {to_x:.0f},{middle:.0f} {to_x:.0f},{to_y:.0f}"
    return f'<path d="{curve}" fill="none" stroke="#777" stroke-opacity="0.6"/>'


def _box(place: tuple[float, float], text: str, colour: str) -> str:
    x, y = place
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour}" '
        f'stroke="#555"/><text x="{x + WIDTH / 2:.0f}" y="{y + 22:.0f}" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def _legend(height: float) -> list[str]:
    y = height - MARGIN - 14
    shown: Mapping[str, str] = NAMES
    return [
        f'<rect x="{MARGIN + 170 * n}" y="{y:.0f}" width="14" height="14" fill="{colour}" '
        f'stroke="#555"/><text x="{MARGIN + 170 * n + 20}" y="{y + 12:.0f}">{name}</text>'
        for n, (colour, name) in enumerate(shown.items())
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, and draw."""
    parser = argparse.ArgumentParser(description="Draw the rule graph of a plan.")
    parser.add_argument("target", nargs="*", help="rules or files; default: all")
    parser.add_argument("--profile", default="profiles/ci", help="decides the resources")
    parser.add_argument("--configfile", default="profiles/demo/config.yaml", help="the plan")
    parser.add_argument("--out", type=Path, required=True, help="SVG file to write")
    options = parser.parse_args(arguments)
    words = [*(options.target or ["all"]), "-F", "--profile", options.profile]
    jobs = plan_jobs([*words, "--configfile", options.configfile])
    write_text(options.out, svg([job for job in jobs if job.outputs]))


if __name__ == "__main__":
    sys.exit(run(main))

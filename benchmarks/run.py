"""Run every benchmark and write the page of results; see `BENCHMARKS` for what there is.

    python -m benchmarks.run --out docs/reference/benchmarks.md [--only few-shot-40]

Each compares the product with a plain reference implementation in `benchmarks/reference/`, in
turn on the same machine; both must give the same result.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.files import write_text


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One command and what it should reach.

    Attributes:
        key: name on the command line.
        words: module below `benchmarks` and its arguments.
        target: the least ratio, in words.
    """

    key: str
    words: tuple[str, ...]
    target: str


BENCHMARKS = (
    Benchmark("few-shot-40", ("few_shot",), "30x CPU"),  # B1
    Benchmark(
        "few-shot-r50",
        ("few_shot", "--architecture", "resnet50", "--n-way", "2", "--n-episodes", "20"),
        "8x CPU",
    ),  # B2
    Benchmark("linear-45", ("linear_evaluation",), "3x CPU cold, 15x with features cached"),  # B3
    Benchmark("linear-320", ("linear_path",), "8x wall"),  # B4
    Benchmark("linear-3000", ("linear_path", "--n-images", "3000"), "2.5x wall"),  # B4
    Benchmark("gezo-epoch", ("gezo",), "1.9x CPU"),  # B9
    Benchmark("invariance", ("invariance",), "8x CPU"),  # performance facts, row 4
    Benchmark("occlusion-64", ("saliency",), "4x CPU"),  # B5; why not 6x wall: see there
    Benchmark(
        "occlusion-242",
        ("occlusion", "--side-px", "242", "--bn", "eval", "--n-rows", "2"),
        "2.5x CPU",
    ),  # B6
    Benchmark("pixels", ("pixel_cache",), "50x CPU for PNG, 12x for JPEG"),  # B10
    Benchmark("cooperative-step", ("cooperative_training",), "1.2x CPU"),  # B12
    Benchmark("crocodile-step", ("crocodile",), "1.2x CPU"),  # one pass a branch, no unfolds
    Benchmark("le-metrics", ("uncertainty",), "50x CPU"),  # B7
    Benchmark("le-vs-de", ("layer_ensembles",), "4.7x CPU over five networks; 1.05 of plain"),  # B8
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print their lines and write the page; fails where a result differs."""
    keys = [one.key for one in BENCHMARKS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="page to write (.md)")
    parser.add_argument("--only", nargs="+", choices=keys, default=keys)
    given = parser.parse_args(arguments)
    blocks, failed = [], 0
    for one in BENCHMARKS:
        if one.key in given.only:
            lines, status = run(one)
            failed |= status
            blocks.append(
                f"## `{one.key}`: at least {one.target}\n\n"
                f"    python -m benchmarks.{' '.join(one.words)}\n\n"
                + "\n".join(f"    {line}" for line in lines)
                + "\n"
            )
    write_text(given.out, page(blocks))
    return failed


def run(benchmark: Benchmark) -> tuple[list[str], int]:
    """Run one benchmark in a process of its own; return its lines and exit status."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark.words[0]}", *benchmark.words[1:]]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(result.stdout)
    sys.stdout.flush()
    return result.stdout.splitlines(), result.returncode


def page(blocks: Sequence[str]) -> str:
    """Return the page: how to read it, the machine, the results."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = f"""# Benchmarks

Made by `make bench`. A line reads: name | reference | product | ratio | equality. CPU seconds
decide (wall in brackets). The reference is a plain implementation in `benchmarks/reference/`,
written from the papers' protocols the way their code works, run in turn with the product.

Machine: {machine}.

"""
    return head + "\n".join(blocks)


if __name__ == "__main__":
    sys.exit(main())

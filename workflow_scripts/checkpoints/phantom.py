"""Write weight files in a published format with synthetic weights, marked as phantoms.

    python -m workflow_scripts.checkpoints.phantom --out resnet18-f37072fd.pth \
        --options '{"format": "torchvision", "architecture": "resnet18", "seed": 0, \
                    "normalisation": "imagenet"}'
    python -m workflow_scripts.checkpoints.phantom --out-dir sources --all '{"name": {...}}'

With `--all`, each checkpoint goes to the `file` of its entry, all in one process; entries whose
weights are seeded need no file and are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.checkpoints.formats import format_named
from workflow_scripts.checkpoints.options import (
    CheckpointOptions,
    options_of,
    parse_options,
    split_name,
)
from workflow_scripts.command_line import run
from workflow_scripts.problems import InputError, Problem, refuse

log = logging.getLogger(__name__)


def write_phantom(options: CheckpointOptions, path: Path) -> None:
    """Write the phantom of one checkpoint's published file (seed 0 where none is given)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    architecture = split_name(options.architecture)[0]
    format_named(options.format).write_phantom(path, architecture, options.seed or 0)
    log.info("%s: phantom of format %s", path, options.format)


def is_same(one: CheckpointOptions, other: CheckpointOptions) -> bool:
    """Tell whether two entries mean the same published file, in other variants."""
    sides = (one.file, one.format, split_name(one.architecture)[0], one.seed)
    return sides == (other.file, other.format, split_name(other.architecture)[0], other.seed)


def planned(text: str, folder: Path) -> dict[Path, CheckpointOptions]:
    """Return the files to write for a JSON object of checkpoints, with their options."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--all", "a JSON object of checkpoints", str(error), "quote it") from error
    plan: dict[Path, CheckpointOptions] = {}
    problems: list[Problem] = []
    for name, entry in entries.items():
        options = options_of(entry)
        if options.weights == "seeded":
            continue
        path = folder / Path(options.file).name
        if options.file and path in plan and is_same(options, plan[path]):
            continue
        if not options.file or path in plan:
            found = repr(options.file) if options.file else "no such key"
            where = f"checkpoint {name!r} key 'file'"
            problems.append(Problem(where, "a file name of its own", found, "name the file"))
        plan[path] = options
    if problems:
        raise InputError(problems)
    return plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one file, or all files of a configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--options", help="a checkpoint's configuration entry, as JSON")
    what.add_argument("--all", help="{name: entry} of several checkpoints, as JSON")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="file to write, with --options")
    where.add_argument("--out-dir", type=Path, help="folder to write into, with --all")
    given = parser.parse_args(arguments)
    if (given.options is None) != (given.out is None):
        parser.error("--options goes with --out, --all with --out-dir")
    if given.options is not None:
        plan = {given.out: parse_options(given.options)}
    else:
        plan = planned(given.all, given.out_dir)
    for path, options in plan.items():
        write_phantom(options, path)


if __name__ == "__main__":
    sys.exit(run(main))

"""Print the checkpoints of the configuration, and how far each has come on this disk.

    python -m workflow_scripts.checkpoints.list

With `--markdown` it prints the table of `docs/reference/checkpoints.md` instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.checkpoints.options import CheckpointOptions, options_of
from workflow_scripts.command_line import run
from workflow_scripts.files import read_json
from workflow_scripts.plan import Plan
from workflow_scripts.problems import refuse

HEADER = ("name", "network", "pretraining", "licence", "size", "on this disk")
MB = 1_000_000


def state_of(plan: Plan, name: str) -> str:
    """Return how far a checkpoint has come: absent, partial, downloaded, proven, converted."""
    certificate = Path(plan.results, "checkpoints", name, "certificate.json")
    if certificate.is_file():
        return "converted, PHANTOM" if read_json(certificate)["phantom"] else "converted"
    receipt = plan.receipt(name)
    if receipt is None:
        return "made when needed"  # seeded, or a phantom
    if Path(receipt).is_file():
        return "proven"
    file = Path(plan.source_path(name) or "")
    if file.is_file():
        return "there, not yet proven"
    part = file.with_name(f"{file.name}.part")
    return f"{part.stat().st_size / MB:.0f} MB came so far" if part.is_file() else "absent"


def size_of(plan: Plan, name: str, options: CheckpointOptions) -> str:
    """Return a file's size in megabytes: of the one on disk, else as published, if known."""
    file = Path(plan.source_path(name) or "")
    if not plan.phantom_checkpoints and file.is_file():
        return f"{file.stat().st_size / MB:.1f} MB"
    if options.size_bytes:
        return f"{options.size_bytes / MB:.1f} MB"
    return f"{options.size_mb:g} MB" if options.size_mb else "not stated"


def rows_of(config: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row a checkpoint, in the configured order."""
    plan = Plan(config)
    rows: list[tuple[str, ...]] = []
    for name, entry in plan.checkpoints.items():
        options = options_of(entry)
        size = "none" if options.weights == "seeded" else size_of(plan, name, options)
        texts = (options.architecture, options.pretraining, options.licence)
        rows.append((name, *texts, size, state_of(plan, name)))
    return rows


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows in aligned columns.

    >>> print(as_text([("a", "long"), ("name", "b")]))
    a     long
    name  b
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def as_markdown(config: Mapping[str, Any]) -> str:
    """Return the zoo as a Markdown table with sources, for the reference."""
    lines = ["| name | network | pretraining | licence | file | known hash |", "|" + "---|" * 6]
    for name, entry in config["checkpoints"].items():
        options = options_of(entry)
        file = f"[{options.file}]({options.url})" if options.url else options.file
        texts = (f"`{options.architecture}`", options.pretraining, options.licence, file)
        lines.append(f"| `{name}` | {' | '.join(texts)} | {known_hash(options)} |")
    return "\n".join(lines)


def known_hash(options: CheckpointOptions) -> str:
    """Say which hash the publisher states."""
    from workflow_scripts.checkpoints.file_kind import digits_in_name

    if options.sha256:
        return f"sha256 `{options.sha256[:8]}`..."
    if options.md5_prefix:
        return f"md5 `{options.md5_prefix}`..."
    digits = digits_in_name(options.file)
    return f"sha256 `{digits}`..." if digits else "none: recorded at the first download"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    import yaml

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="configuration")
    parser.add_argument("--markdown", action="store_true", help="with sources, for the reference")
    given = parser.parse_args(arguments)
    if not given.config.is_file():
        raise refuse(str(given.config), "a configuration", "no such file", "name it with --config")
    config = yaml.safe_load(given.config.read_text(encoding="utf-8"))
    text = as_markdown(config) if given.markdown else as_text([HEADER, *rows_of(config)])
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(run(main))

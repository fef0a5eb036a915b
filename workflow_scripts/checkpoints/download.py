"""Bring a published weight file to its place, proven, or prove the one that is there.

    python -m workflow_scripts.checkpoints.download --out data/checkpoints/resnet18-f37072fd.pth \
        --options '{"format": "torchvision", "architecture": "resnet18", "url": "https://...", \
                    "normalisation": "imagenet"}' \
        --checksums results/published/checksums.csv --receipt receipt.json

A file that is already there, placed by hand, is proven and kept. Otherwise the addresses are
tried in turn; a transfer that was cut off goes on where it stopped, in the next run as well. The
file appears under its name only when it is whole and its hash is right.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.checkpoints.file_kind import is_phantom
from workflow_scripts.checkpoints.options import CheckpointOptions, parse_options
from workflow_scripts.checkpoints.proof import (
    Checksum,
    Digest,
    exclusive,
    proven,
    read_lock,
    record,
)
from workflow_scripts.checkpoints.transfer import Patience, Unfit, fetch, forget
from workflow_scripts.command_line import run
from workflow_scripts.files import write_json
from workflow_scripts.problems import InputError, Problem, refuse

log = logging.getLogger(__name__)

PROGRESS_S = 1.0  # between two lines of progress


def obtain(out: Path, options: CheckpointOptions, checksums: Path, patience: Patience) -> str:
    """Make sure that the published file is at `out`; return the address that gave it.

    Returns:
        The address, or an empty text when the file was there already.

    Raises:
        InputError: if it cannot be had or is not the published one, with what to do by hand.
    """
    locked = read_lock(checksums).get(out.name)
    if out.exists():
        prove_placed(out, options, locked)
        return ""
    addresses = [address for address in (options.url, *options.mirrors) if address]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    problems: list[Problem] = []
    with exclusive(out.with_name(f".{out.name}.lock"), wait=False):
        for address in addresses:
            try:
                fetch_shown(address, part, patience)
                proven(part, out.name, options, locked)
            except Unfit as error:
                forget_unless_resumable(part, error)
                problems.append(Problem(address, "the file", str(error), by_hand(out, options)))
            except InputError as error:
                forget(part)
                problems += [
                    Problem(address, one.expected, one.found, by_hand(out, options))
                    for one in error.problems
                ]
            else:
                part.replace(out)
                forget(part)
                return address
    if not problems:
        found = "no such file, and no address in the configuration"
        problems = [Problem(str(out), "the weight file", found, f"place it at {out}")]
    raise InputError(problems)


def prove_placed(out: Path, options: CheckpointOptions, locked: Checksum | None) -> None:
    """Prove a file that is there already; it is never removed, whatever it is."""
    if is_phantom(out):
        step = "move it away; phantoms belong below the results folder of the demo"
        raise refuse(str(out), "the published file", "a phantom", step)
    try:
        proven(out, out.name, options, locked)
    except InputError as error:
        step = f"move it away and run again, or {by_hand(out, options)}"
        raise InputError(
            Problem(one.where, one.expected, one.found, step) for one in error.problems
        ) from error


def forget_unless_resumable(part: Path, error: Unfit) -> None:
    """Drop a partial file unless it can be resumed later."""
    if not str(error).startswith("broke off"):
        forget(part)


def by_hand(out: Path, options: CheckpointOptions) -> str:
    """Say what a person can do when no address works."""
    page = options.page or options.url
    return (
        f"open {page} in a browser, save the file as {out} and run again: it will be verified "
        "and used (what the address shows may be a login, a preview or a question to confirm)"
    )


def fetch_shown(address: str, part: Path, patience: Patience) -> None:
    """Fetch with a bar on the screen, or a line now and then in a log."""
    from tqdm import tqdm

    log.info("%s: asking %s", part.stem, address)
    with tqdm(
        unit="B",
        unit_scale=True,
        desc=part.stem,
        mininterval=PROGRESS_S if sys.stderr.isatty() else 30 * PROGRESS_S,
    ) as bar:

        def show(count: int, total: int | None) -> None:
            """Set the bar to `count` bytes."""
            bar.total = total
            bar.update(count - bar.n)

        fetch(address, part, patience, show)


def receipt_of(
    out: Path, address: str, options: CheckpointOptions, digest: Digest, checked: list[str]
) -> dict[str, Any]:
    """Return what the convert step compares the file with."""
    return {
        "file": out.name,
        "sha256": digest.sha256,
        "md5": digest.md5,
        "size_bytes": digest.size_bytes,
        "url": address or options.url or None,
        "placed_by_hand": not address,
        "checked_against": checked,
        "checked_on": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Obtain one file, record its checksum if it is new, and write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--options", required=True, help="a checkpoint's configuration entry")
    parser.add_argument("--out", type=Path, required=True, help="where the weight file belongs")
    parser.add_argument("--checksums", type=Path, required=True, help="the lock (.csv)")
    parser.add_argument("--receipt", type=Path, required=True, help="to write (.json)")
    parser.add_argument("--attempts", type=int, default=5, help="in a row that bring nothing")
    parser.add_argument("--wait-s", type=float, default=2.0, help="before the second attempt")
    parser.add_argument("--timeout-s", type=float, default=60.0, help="of silence")
    given = parser.parse_args(arguments)
    options = parse_options(given.options)
    patience = Patience(given.attempts, given.wait_s, given.timeout_s)
    address = obtain(given.out, options, given.checksums, patience)
    locked = read_lock(given.checksums).get(given.out.name)
    digest, checked = proven(given.out, given.out.name, options, locked)
    if locked is None and options.url:
        line = Checksum(given.out.name, digest.sha256, digest.size_bytes, address or options.url)
        record(given.checksums, line)
        log.info("%s: first seen; sha256 recorded in %s", given.out.name, given.checksums)
    write_json(given.receipt, receipt_of(given.out, address, options, digest, checked))
    log.info("%s: proven (%s)", given.out, ", ".join(checked) or "nothing to compare with yet")


if __name__ == "__main__":
    sys.exit(run(main))

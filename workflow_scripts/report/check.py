"""What is there and what is not: every configured data set and checkpoint at a glance.

Run by hand::

    python -m workflow_scripts.report.check --config "$(cat config.json)" --out check.csv

Looks at folders, index files and what earlier runs left (card, leak certificate, certificate); it
opens no image and no weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, write_text
from workflow_scripts.problems import InputError, refuse
from workflow_scripts.report.long_form import csv_text

FOUND, MISSING, REFUSED, PHANTOM = "found", "missing", "refused", "phantom"
NOTHING, NONE, UNSTATED = "nothing", "none", "not stated"
WIDTH = 100  # columns of the printed table; a common terminal
START_BYTES = 64  # enough to tell weights from a web page
NOT_WEIGHTS = {
    b"<": "a web page, such as a login or an error",
    b"version https://git-lfs": "a pointer of git lfs, not the file",
}
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one data set or checkpoint.

    Attributes:
        kind: `data set` or `checkpoint`.
        name: its name in the configuration.
        status: found, missing, refused, or phantom (the workflow makes it).
        where: the folder or file looked at.
        found: what stands there.
        next_step: what the user can do; `nothing` where all is well.
        terms: licence, and who may have it; `none` for what the workflow makes.
    """

    kind: str
    name: str
    status: str
    where: str
    found: str
    next_step: str
    terms: str


COLUMNS = tuple(field.name for field in fields(Finding))


def check_dataset(config: Json, name: str) -> Finding:
    """Return what is known of one data set."""
    entry = config["datasets"][name]
    folder = Path(config["data_root"]) / entry["root"]

    def finding(status: str, found: str, next_step: str = NOTHING) -> Finding:
        """Fill in what does not depend on the outcome."""
        terms = NONE if status == PHANTOM else terms_of(entry)
        return Finding("data set", name, status, str(folder), found, next_step, terms)

    if entry["root"] in config["phantoms"]["datasets"]:
        return finding(PHANTOM, "made by the workflow")
    try:
        how_to_get = _read_index_if_there(folder, entry)
    except InputError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        problem = error.problems[0]
        found = f"{problem.where}: expected {problem.expected}, found {problem.found}{more}"
        return finding(REFUSED, found, problem.next_step)
    if how_to_get:
        return finding(MISSING, "no such folder, or an empty one", how_to_get)
    made = Path(config["pathvars"]["results"]) / "datasets" / name
    return finding(*_manifest_state(made))


def terms_of(entry: Json) -> str:
    """Return licence and access class of a data set; nothing is known of an unknown layout."""
    from workflow_scripts.datasets.layout import layout_named

    try:
        layout = layout_named(entry["layout"])
    except InputError:
        return UNSTATED
    return "; ".join(str(entry.get(key) or getattr(layout, key)) for key in ("licence", "access"))


def _read_index_if_there(folder: Path, entry: Json) -> str:
    """Read the index of an archive; return how to get the archive if it is not there.

    Raises:
        InputError: the layout is unknown, or the index is not as published.
    """
    from workflow_scripts.datasets.layout import check_options, layout_named
    from workflow_scripts.datasets.manifest import how_to_get

    layout = layout_named(entry["layout"])
    check_options(layout, entry)
    if not folder.is_dir() or not any(folder.iterdir()):
        return how_to_get(layout, entry)
    layout.read(folder, entry)
    return ""


def _manifest_state(made: Path) -> tuple[str, str, str]:
    """Return status, finding and next step of a data set whose index can be read."""
    card, leaks = made / "card.json", made / "leak_free.json"
    if not card.is_file():
        return FOUND, "an index that can be read; images not yet looked at", NOTHING
    content = read_json(card)
    images, patients = (f"{content['flow'][-1][key]:,}" for key in ("images", "patients"))
    found = f"{images} images of {patients} patients"
    if leaks.is_file() and not read_json(leaks)["split"]["leak_free"]:
        return REFUSED, f"{found}; a patient or a file in two splits", f"see {leaks}"
    n_refused = sum(content.get("quarantined", {}).values())
    if n_refused:
        return FOUND, f"{found}; {n_refused:,} files refused", f"see {made / 'quarantine.csv'}"
    return FOUND, found, NOTHING


def check_checkpoint(config: Json, name: str) -> Finding:
    """Return what is known of one checkpoint."""
    entry = config["checkpoints"][name]
    where = Path(config["source_root"]) / entry.get("file", "")

    def finding(status: str, found: str, next_step: str = NOTHING) -> Finding:
        """Fill in what does not depend on the outcome."""
        place = str(where) if "file" in entry else "no file"
        terms = str(entry.get("licence", UNSTATED)) if "file" in entry else NONE
        return Finding("checkpoint", name, status, place, found, next_step, terms)

    if entry.get("weights") == "seeded":
        return finding(FOUND, "seeded weights, untrained; made by the workflow")
    if "file" not in entry:
        step = "name its file, or say weights: seeded"
        return finding(REFUSED, "neither a file nor seeded weights", step)
    if config["phantoms"].get("checkpoints"):
        return finding(PHANTOM, "made by the workflow")
    if not where.is_file():
        address = f" from {entry['url']}" if "url" in entry else " from its authors"
        return finding(MISSING, "no such file", f"download {entry['file']}{address}, put it there")
    with where.open("rb") as handle:
        start = handle.read(START_BYTES)
    wrong = next((what for sign, what in NOT_WEIGHTS.items() if start.startswith(sign)), "")
    if not start or wrong:
        return finding(REFUSED, wrong or "an empty file", "download the file itself, whole")
    certificate = Path(config["pathvars"]["results"]) / "checkpoints" / name / "certificate.json"
    if not certificate.is_file():
        size = where.stat().st_size / 2**20
        return finding(FOUND, f"{size:,.0f} MiB, not yet converted")
    content = read_json(certificate)
    if content["missing"] or content["unexpected"]:
        found = f"{len(content['missing'])} keys missing, {len(content['unexpected'])} left over"
        return finding(REFUSED, found, f"see {certificate}; is it the published file?")
    return finding(FOUND, f"converted: {content['architecture']}, every key in its place")


def printed(findings: Iterable[Finding]) -> str:
    """Return the findings as one table, the next step below where there is one."""
    shown = list(findings)
    widths = [max(len(getattr(f, name)) for f in shown) for name in ("kind", "name", "status")]
    lines = []
    for finding in shown:
        head = [finding.kind, finding.name, finding.status]
        start = "".join(f"{text:<{w}}  " for text, w in zip(head, widths, strict=True))
        lines += _wrapped(f"{finding.where}: {finding.found}", start)
        if finding.next_step != NOTHING:
            lines += _wrapped(finding.next_step, "    next step: ")
        if finding.terms != NONE:
            lines += _wrapped(finding.terms, "    terms: ")
    counts = [sum(f.status == s for f in shown) for s in (FOUND, MISSING, REFUSED, PHANTOM)]
    lines += ["", "{} found, {} missing, {} refused, {} phantom".format(*counts)]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, start: str) -> list[str]:
    """Return the text in lines that fit, after `start`; addresses and paths stay whole."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it as CSV."""
    parser = argparse.ArgumentParser(description="Say which data and checkpoints are there.")
    parser.add_argument("--config", required=True, help="the whole configuration as JSON")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    options = parser.parse_args(arguments)
    try:
        config = json.loads(options.config)
    except json.JSONDecodeError as error:
        raise refuse("--config", "JSON", str(error), "give the configuration as JSON") from error
    findings = [
        *(check_dataset(config, name) for name in config["datasets"]),
        *(check_checkpoint(config, name) for name in config["checkpoints"]),
    ]
    write_text(options.out, csv_text(COLUMNS, (astuple(finding) for finding in findings)))
    sys.stdout.write(printed(findings))


if __name__ == "__main__":
    sys.exit(run(main))

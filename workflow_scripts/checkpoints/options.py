"""What a checkpoint's entry in the configuration says, checked; without importing torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from workflow_scripts.problems import InputError, Problem, nearest, refuse

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # spec section 2.6
IMAGENET_STD = (0.229, 0.224, 0.225)  # spec section 2.6
UNSTATED = "not stated"
NAMES = ("format", "architecture", "library", "file", "url", "page", "sha256", "md5_prefix")
TEXTS = (*NAMES, "interpolation", "licence", "pretraining")
ENTRY = "checkpoint entry"
ADDRESS = re.compile(r"https?://\S+")
SHA256 = re.compile(r"[0-9a-f]{64}")
MD5_PREFIX = re.compile(r"[0-9a-f]{6,32}")
FIX = "correct this checkpoint's entry in the configuration"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How pixels in [0, 1] become the network's input.

    Attributes:
        kind: `mean_std`, `none`, or `histogram` (equalised; no constants).
        mean: a value for each channel, for `mean_std` only.
        std: a value for each channel, for `mean_std` only.
    """

    kind: Literal["mean_std", "none", "histogram"]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """One checkpoint of the configuration."""

    format: str  # a module of checkpoints/formats
    architecture: str  # a name of the format's library
    normalisation: Normalisation  # never guessed: a wrong one costs accuracy without an error
    library: str = ""  # optional, for the reader: must be the format's
    weights: Literal["file", "seeded"] = "file"  # seeded: untrained baseline
    seed: int | None = None  # of seeded weights, or of a phantom file
    file: str = ""  # the published file, for the rules and the certificate
    url: str = ""  # where it is published
    mirrors: tuple[str, ...] = ()  # other addresses of the same bytes, tried in this order
    page: str = ""  # where a person gets it when no address works
    sha256: str = ""  # of the file, where its publisher states it (else the lock's, or the name's)
    md5_prefix: str = ""  # first digits, where its publisher states them
    size_bytes: int | None = None  # exact, where its publisher states it
    size_mb: float | None = None  # about (10^6 bytes), for the list of checkpoints
    size_px: int = 224  # side of the square input, as in all pipelines but two (spec 4.1)
    interpolation: str = UNSTATED  # of the pretraining's own resize, for the record
    licence: str = UNSTATED  # as its publisher states it
    pretraining: str = UNSTATED  # data and method, for the record


def parse_options(text: str) -> CheckpointOptions:
    """Return the options in a JSON object.

    Raises:
        InputError: listing every key that is unknown, missing, or of a wrong kind.
    """
    try:
        entry = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--options", "a JSON object", f"{text[:80]!r} ({error})", FIX) from error
    if not isinstance(entry, dict):
        raise refuse("--options", "a JSON object", text[:80], FIX)
    return options_of(entry)


def options_of(entry: Mapping[str, Any]) -> CheckpointOptions:
    """Return a configuration entry as checked options; see `parse_options`."""
    problems = [*key_problems(entry), *value_problems(entry)]
    if problems:
        raise InputError(problems)
    known = dict(entry)
    known["normalisation"] = normalisation_of(known["normalisation"])
    known["mirrors"] = tuple(known.get("mirrors", ()))
    return CheckpointOptions(**known)


def key_problems(entry: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each unknown or missing key."""
    known = [field.name for field in fields(CheckpointOptions)]
    problems = []
    for key in entry:
        if key not in known:
            where = f"{ENTRY} key {key!r}"
            problems.append(Problem(where, "a known key", repr(key), nearest(key, known)))
    required = ["format", "architecture", "normalisation"]
    if entry.get("weights") == "seeded":
        required.append("seed")
    problems.extend(
        Problem(f"{ENTRY} key {key!r}", "a value", "no such key", FIX)
        for key in required
        if key not in entry
    )
    return problems


def value_problems(entry: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each value of a wrong kind."""
    problems = [
        Problem(f"{ENTRY} key {key!r}", "a text", repr(entry[key]), FIX)
        for key in TEXTS
        if not isinstance(entry.get(key, ""), str)
    ]
    for key, lowest in {"seed": 0, "size_px": 1, "size_bytes": 1}.items():
        value = entry.get(key, lowest)
        if type(value) is not int or value < lowest:
            want = f"an integer of at least {lowest}"
            problems.append(Problem(f"{ENTRY} key {key!r}", want, repr(value), FIX))
    problems.extend(source_problems(entry))
    if entry.get("weights", "file") not in ("file", "seeded"):
        found = repr(entry["weights"])
        problems.append(Problem(f"{ENTRY} key 'weights'", "'file' or 'seeded'", found, FIX))
    if "normalisation" in entry and not is_normalisation(entry["normalisation"]):
        want = "'imagenet', 'none', 'histogram' or {mean: [3 numbers from 0 to 1, as pixels are "
        want += "divided by 255 before], std: [3 positive numbers]}"
        found = repr(entry["normalisation"])
        problems.append(Problem(f"{ENTRY} key 'normalisation'", want, found, FIX))
    return problems


def source_problems(entry: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each wrong statement about where the file is and what it is."""
    problems: list[Problem] = []
    mirrors = entry.get("mirrors", [])
    addresses = mirrors if isinstance(mirrors, (list, tuple)) else [mirrors]
    for key, values in (("url", [entry.get("url", "")]), ("mirrors", addresses)):
        problems.extend(
            Problem(f"{ENTRY} key {key!r}", "an http or https address", repr(value), FIX)
            for value in values
            if value != "" and not (isinstance(value, str) and ADDRESS.fullmatch(value))
        )
    for key, pattern in (("sha256", SHA256), ("md5_prefix", MD5_PREFIX)):
        value = entry.get(key, "")
        if isinstance(value, str) and value and not pattern.fullmatch(value):
            want = f"hexadecimal digits, {pattern.pattern}"
            problems.append(Problem(f"{ENTRY} key {key!r}", want, repr(value), FIX))
    size = entry.get("size_mb", 1.0)
    if type(size) not in (int, float) or size <= 0:
        want = "a positive number of megabytes"
        problems.append(Problem(f"{ENTRY} key 'size_mb'", want, repr(size), FIX))
    return problems


def is_normalisation(value: object) -> bool:
    """Tell whether `value` names a normalisation or gives its constants."""
    if isinstance(value, str):
        return value in ("imagenet", "none", "histogram")
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        return False
    mean, std = value["mean"], value["std"]
    are_triples = all(
        isinstance(part, (list, tuple))
        and len(part) == 3
        and all(type(number) in (int, float) for number in part)
        for part in (mean, std)
    )
    return are_triples and all(0 <= m <= 1 for m in mean) and all(s > 0 for s in std)


def normalisation_of(value: str | Mapping[str, Any]) -> Normalisation:
    """Return the normalisation that a configuration entry means."""
    if isinstance(value, Mapping):
        return Normalisation("mean_std", tuple(value["mean"]), tuple(value["std"]))
    if value == "imagenet":
        return Normalisation("mean_std", IMAGENET_MEAN, IMAGENET_STD)
    return Normalisation("none" if value == "none" else "histogram")


def split_name(architecture: str) -> tuple[str, tuple[str, ...]]:
    """Return the library's own name of a network and its variants (see `variants`).

    >>> split_name("resnet50+gray")
    ('resnet50', ('gray',))
    """
    plain, *variants = architecture.split("+")
    return plain, tuple(variants)

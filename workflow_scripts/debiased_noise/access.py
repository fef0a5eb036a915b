"""Which foundation model a step works with: a backbone file in this process, or a service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from workflow_scripts.debiased_noise.queries import BlackBox, QueryCount


class Access(NamedTuple):
    """A foundation model that only embeds.

    Attributes:
        box: counts what it embeds.
        input_size: pixels a side of its images.
        about: `checkpoint`, `backbone_sha256`, `phantom` and `pretrained`, for provenance.
        url: of the service; None in this process.
    """

    box: BlackBox
    input_size: int
    about: dict[str, Any]
    url: str | None


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `open_box` reads."""
    parser.add_argument("--backbone", type=Path, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, help="of the backbone, .json")
    parser.add_argument("--api", help="address of an embedding service, instead of a backbone")
    parser.add_argument("--token-file", type=Path, help="file with the service's token")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each answer")
    parser.add_argument("--retries", type=int, default=5, help="of a request that failed")
    parser.add_argument(
        "--query-budget", type=int, help="images that may be sent in all; default: any number"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images of one forward pass")


def open_box(given: argparse.Namespace, queries: QueryCount, device: str) -> Access:
    """Return the model of a parsed command line; its images are counted in `queries`.

    Raises:
        InputError: unless either a backbone with its certificate or a service is given.
    """
    has_files = given.backbone is not None and given.certificate is not None
    if has_files == (given.api is not None):
        expected = "either --backbone and --certificate, or --api"
        found = "both" if has_files else "neither"
        raise refuse("foundation model", expected, found, "give one of the two")
    if has_files:
        return _in_process(given, queries, device)
    return _behind_http(given, queries)


def _in_process(given: argparse.Namespace, queries: QueryCount, device: str) -> Access:
    from workflow_scripts.debiased_noise.foundation import ABOUT, load_foundation
    from workflow_scripts.debiased_noise.queries import CountedBox

    model, content = load_foundation(given.backbone, given.certificate, device, given.batch_size)
    about = {name: content[name] for name in ABOUT}
    return Access(CountedBox(model, queries), model.input_size, about, None)


def _behind_http(given: argparse.Namespace, queries: QueryCount) -> Access:
    from workflow_scripts.debiased_noise.client import HttpFoundation, Patience
    from workflow_scripts.debiased_noise.serve import read_token

    patience = Patience(timeout_s=given.timeout, retries=given.retries)
    service = HttpFoundation(given.api, queries, read_token(given.token_file), patience)
    about = {
        "checkpoint": service.about.get("checkpoint", given.api),
        "backbone_sha256": service.about["backbone_sha256"],
        "phantom": bool(service.about.get("phantom", False)),
        "pretrained": bool(service.about.get("pretrained", True)),
    }
    return Access(service, service.input_size, about, given.api)

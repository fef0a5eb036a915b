"""Convert a published weight file to a proven backbone and its certificate.

    python -m workflow_scripts.checkpoints.convert --checkpoint moco-v2 \
        --options '{"format": "moco_v2", "architecture": "resnet50", "normalisation": "imagenet"}' \
        --source moco_v2_800ep_pretrain.pth.tar \
        --backbone backbone.safetensors --certificate certificate.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.checkpoints.formats import format_named, library_of
from workflow_scripts.checkpoints.options import CheckpointOptions, parse_options, split_name
from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, sha256_of, write_json, write_safetensors
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from workflow_scripts.checkpoints.conversion import ConvertedTensors

log = logging.getLogger(__name__)


def convert(options: CheckpointOptions, source: Path | None) -> ConvertedTensors:
    """Return the proven tensors of a checkpoint: read from `source`, or seeded."""
    from workflow_scripts.checkpoints.backbone import expected_tensors
    from workflow_scripts.checkpoints.conversion import prove_complete, with_counters
    from workflow_scripts.checkpoints.synthetic import seeded_tensors
    from workflow_scripts.checkpoints.variants import adapted

    library, architecture = library_of(options), options.architecture
    if options.weights == "seeded":
        if source is not None or options.seed is None:
            raise refuse(
                "--source",
                "no file and a seed, as the weights are seeded",
                str(source),
                "leave --source out, or set 'weights' to 'file'",
            )
        return seeded_tensors(library, architecture, options.seed)
    if source is None:
        raise refuse("--source", "the published file", "none given", "name it with --source")
    expected = expected_tensors(library, architecture)
    read = format_named(options.format).read(source, split_name(architecture)[0])
    converted = with_counters(adapted(read, architecture, expected), expected)
    prove_complete(str(source), converted, expected)
    return converted


def require_receipt(source: Path | None, receipt: Path) -> None:
    """Refuse a source that is not the file which the download step proved."""
    proven = read_json(receipt)
    digest = sha256_of(source) if source is not None and source.is_file() else "no such file"
    if digest != proven["sha256"]:
        raise refuse(
            str(source),
            f"sha256 {proven['sha256']}, as {receipt} says",
            digest,
            f"delete {receipt} and run the download again, which proves the file",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the backbone, then its certificate; without the second the first is worth nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="its name in the configuration")
    parser.add_argument("--options", required=True, help="its entry there, as JSON")
    parser.add_argument("--source", type=Path, help="published file (not for seeded weights)")
    parser.add_argument("--receipt", type=Path, help="the download step's proof of --source")
    parser.add_argument("--backbone", type=Path, required=True, help="to write (.safetensors)")
    parser.add_argument("--certificate", type=Path, required=True, help="to write (.json)")
    given = parser.parse_args(arguments)
    options = parse_options(given.options)

    from safetensors.torch import save

    from workflow_scripts.checkpoints.certificate import make_certificate

    if given.receipt is not None:
        require_receipt(given.source, given.receipt)
    converted = convert(options, given.source)
    given.certificate.unlink(missing_ok=True)  # an old one must not vouch for a new backbone
    write_safetensors(given.backbone, save(dict(converted.tensors)))
    certificate = make_certificate(
        given.checkpoint, options, given.source, converted, given.backbone
    )
    write_json(given.certificate, certificate)
    log.info(
        "%s: %d tensors, %d source keys ignored, features of size %d%s",
        given.checkpoint,
        len(converted.tensors),
        len(converted.ignored),
        certificate["feature_dim"],
        ", PHANTOM" if certificate["phantom"] else "",
    )


if __name__ == "__main__":
    sys.exit(run(main))

"""Step: write the reference page of the protocols' differences from the code's option lists."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training import protocols as cooperative_training
from workflow_scripts.crocodile.protocols import PROTOCOLS as CROCODILE
from workflow_scripts.debiased_noise import protocols as debiased_noise
from workflow_scripts.files import write_text
from workflow_scripts.layer_ensembles.protocols import OPTIONS as LAYER_ENSEMBLES
from workflow_scripts.ssl_transfer import invariance_protocols, protocols, training_protocols

HEAD = """\
# Protocols: what the released code did, and what is sound

Made from the option lists in the code; do not edit it by hand but run
`python -m workflow_scripts.report.protocols_page --out docs/reference/protocols.md`. `released` is
what the printed numbers came from and is what the ledger compares; `corrected` is what a user
should believe. The rows in bold differ.
"""
SECTIONS: tuple[tuple[str, Mapping[Any, Any]], ...] = (
    ("SSL transfer: few-shot", protocols.FEW_SHOT),
    ("SSL transfer: linear", protocols.LINEAR),
    ("SSL transfer: fine-tuning", training_protocols.FINETUNE),
    ("SSL transfer: saliency", training_protocols.SALIENCY),
    ("SSL transfer: reconstruction", training_protocols.RECONSTRUCTION),
    ("SSL transfer: invariance", invariance_protocols.INVARIANCE),
    ("Cooperative training: training", cooperative_training.TRAINING),
    ("Cooperative training: scoring", cooperative_training.SCORING),
    ("Debiased noise: attribute classifier", debiased_noise.ATTRIBUTE),
    ("Debiased noise: white-box edit", debiased_noise.EDIT),
    ("Debiased noise: disease classifier", debiased_noise.HEAD),
    ("CROCODILE", CROCODILE),
    ("Layer ensembles: newest commit", LAYER_ENSEMBLES),
    # the printed numbers came from the first commit (`protocol: paper`)
    (
        "Layer ensembles: the paper's runs",
        {**LAYER_ENSEMBLES, "released": LAYER_ENSEMBLES["paper"]},
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the page to write (.md)")
    write_text(parser.parse_args(arguments).out, page())


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *(section(title, bundles) for title, bundles in SECTIONS)])


def section(title: str, bundles: Mapping[Any, Any]) -> str:
    """Return the table of one step.

    Args:
        title: of the section.
        bundles: the options of `released` and `corrected`, two instances of one dataclass whose
            fields carry `why` and `source`.
    """
    released, corrected = bundles["released"], bundles["corrected"]
    lines = [f"## {title}", "", "| option | released | corrected | why | source |"]
    lines.append("|---|---|---|---|---|")
    for one in fields(released):
        old, new = getattr(released, one.name), getattr(corrected, one.name)
        name = f"`{one.name}`" if old == new else f"**`{one.name}`**"
        cells = (name, shown(old), shown(new), one.metadata["why"], one.metadata["source"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def shown(value: object) -> str:
    """Return a value as a reader would write it."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "no limit" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(run(main))

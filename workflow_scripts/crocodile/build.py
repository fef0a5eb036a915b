"""Making a network of a variant, from a checkpoint's trunk or fresh, the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.certificate import check, load_checked
from workflow_scripts.crocodile.model import Crocodile, Objective
from workflow_scripts.crocodile.plain import PlainClassifier, PlainObjective
from workflow_scripts.crocodile.protocols import CrocodileOptions
from workflow_scripts.crocodile.settings import LossWeights, Shape
from workflow_scripts.crocodile.trunk import SmallTrunk, as_trunk
from workflow_scripts.crocodile.variants import Variant
from workflow_scripts.problems import refuse
from workflow_scripts.training.streams import initialised

Network = Crocodile | PlainClassifier


class TrunkOrigin(NamedTuple):
    """Where a trunk's weights came from."""

    architecture: str | None  # rebuilds the checkpoint's network; None for the small trunk
    is_phantom: bool  # synthetic weights in a published format


def make_trunk(shape: Shape, backbone: Path | None, certificate: Path | None) -> nn.Module:
    """Return one trunk with the checkpoint's weights; the small one has none.

    Raises:
        InputError: the checkpoint is missing where one is needed, or is no gray ResNet.
    """
    if shape.trunk == "small":
        return SmallTrunk()
    if backbone is None or certificate is None:
        step = "name crocodile.network.checkpoint, or take the small trunk"
        raise refuse("--backbone", "a checkpoint for the resnet trunk", "none", step)
    return as_trunk(load_checked(backbone, certificate)[0], str(certificate))


def empty_trunk(shape: Shape, architecture: str | None) -> nn.Module:
    """Return a trunk whose weights will be read from a trained model."""
    if shape.trunk == "small" or architecture is None:
        return SmallTrunk()
    return as_trunk(build_backbone("torchvision", architecture), architecture)


def about_trunk(shape: Shape, backbone: Path | None, certificate: Path | None) -> TrunkOrigin:
    """Return where the trunk's weights came from; the small trunk came from nowhere."""
    if shape.trunk == "small" or backbone is None or certificate is None:
        return TrunkOrigin(None, False)
    content = check(backbone, certificate)
    return TrunkOrigin(str(content["architecture"]), bool(content["phantom"]))


def make_objective(
    trunks: Sequence[nn.Module], findings: Sequence[str], n_domains: int, shape: Shape,
    variant: Variant, options: CrocodileOptions, weights: LossWeights, seed: int,
) -> Objective | PlainObjective:  # fmt: skip
    """Return network and loss, drawn from `seed`.

    Args:
        trunks: one for each branch of the variant.
        findings: names of the K findings.
        n_domains: D.
        shape: of the network.
        variant: a row of the table.
        options: of the protocol.
        weights: factors of the loss terms.
        seed: of the initial weights.

    Raises:
        InputError: the released network, whose features must be the trunk's channels.
    """
    left = iter(trunks)
    with initialised(seed, "crocodile network"):
        if variant.is_plain:
            plain = PlainClassifier(next(left), len(findings))
            return PlainObjective(plain, variant.asl_scale)
        model = Crocodile(lambda: next(left), len(findings), n_domains, shape, variant, options)
        channels = int(model.disease.trunk.channels)  # type: ignore[arg-type]
        if options.spurious_layers == "all" and channels != shape.features:
            step = "set crocodile.network.features to it, or take the corrected protocol"
            expected = f"the trunk's {channels} channels (released)"
            raise refuse("network.features", expected, str(shape.features), step)
        return Objective(model, findings, n_domains, shape.features, weights)

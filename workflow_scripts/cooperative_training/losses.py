"""The loss terms of one update: a standard pass, and a pass of hard examples made from it.

    L = l_seg + l_img + l_gt + l_shp  +  h_seg + h_img + h_shp + h_cor      (every weight 1)

Source: spec sections 8 and 9; golden `network.one_training_step` and `gradient_routing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.cooperative_training.masking import (
    MaskDraw,
    MaskOptions,
    drop_channels,
    targeted_mask,
)
from workflow_scripts.cooperative_training.networks import (
    Codes,
    CooperativeNetworks,
    Decoder,
    map_of_labels,
    map_of_logits,
    protected,
    track_again,
)

Scope = Literal["image code", "shape code"]
Terms = dict[str, Tensor]  # name of a loss term to its scalar
LABEL_TERM = "standard/gt_shape"


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What is trained, and how; the defaults are the cooperative training of the released code."""

    mask_scope: tuple[Scope, ...] = ("image code", "shape code")  # empty: standard training
    image_mask: MaskOptions = field(default_factory=MaskOptions)
    shape_mask: MaskOptions = field(default_factory=MaskOptions)
    is_separate: bool = False  # the slow network's losses do not reach the fast one
    has_label_loss: bool = True  # l_gt; only logged in the first public release


class Batch(NamedTuple):
    """One batch, augmented slices first, then the same slices as stored.

    Attributes:
        clean: images in [0, 1], shape (N, 1, H, W).
        noisy: the same with Gaussian noise; what the encoder reads.
        labels: shape (N, H, W), int64.
    """

    clean: Tensor
    noisy: Tensor
    labels: Tensor


class StandardPass(NamedTuple):
    """What the standard pass leaves for the hard one."""

    terms: Terms
    codes: Codes
    logits: Tensor
    image: Tensor


class HardExamples(NamedTuple):
    """Self-made hard examples, without a graph; None where the mask scope leaves one out."""

    image: Tensor | None  # corrupted image, (N, 1, H, W)
    logits: Tensor | None  # corrupted segmentation, (N, 4, H, W)


class Draws(NamedTuple):
    """The masks of one batch, and the source of their values."""

    image: MaskDraw
    shape: MaskDraw
    generator: torch.Generator | None


def image_loss(image: Tensor, clean: Tensor) -> Tensor:
    """Return half the mean squared error (golden `image_reconstruction_loss`)."""
    return 0.5 * F.mse_loss(image, clean)


def standard_pass(
    networks: CooperativeNetworks, batch: Batch, options: TrainingOptions
) -> StandardPass:
    """Return the standard terms; forward calls in the released order."""
    codes = networks.image_encoder(batch.noisy)
    logits = networks.segmentation_decoder(codes.shape)
    image = networks.image_decoder(codes.image)
    from_labels = networks.correct(map_of_labels(batch.labels))
    from_logits = networks.correct(_slow_input(logits, options))
    terms = {
        "standard/seg": F.cross_entropy(logits, batch.labels),
        "standard/image": image_loss(image, batch.clean),
        LABEL_TERM: F.cross_entropy(from_labels, batch.labels),
        "standard/shape": F.cross_entropy(from_logits, batch.labels),
    }
    return StandardPass(terms, codes, logits, image)


def hard_pass(
    networks: CooperativeNetworks, batch: Batch, hard: HardExamples, options: TrainingOptions
) -> Terms:
    """Return the terms of the hard examples.

    The norms of the encoder, the segmentation decoder and the slow network are protected; those
    of the image decoder are not (as released).
    """
    terms: Terms = {}
    fast = (networks.image_encoder, networks.segmentation_decoder)
    slow = (networks.shape_encoder, networks.shape_decoder)
    with protected(*fast, *slow):
        if hard.image is not None:
            codes = networks.image_encoder(hard.image)
            logits = networks.segmentation_decoder(codes.shape)
            image = networks.image_decoder(codes.image)
            corrected = networks.correct(_slow_input(logits, options))
            terms["hard/seg"] = F.cross_entropy(logits, batch.labels)
            terms["hard/image"] = image_loss(image, batch.clean)
            terms["hard/shape"] = F.cross_entropy(corrected, batch.labels)
        if hard.logits is not None:
            corrected = networks.correct(map_of_logits(hard.logits))
            terms["hard/corrupted_shape"] = F.cross_entropy(corrected, batch.labels)
    return terms


def _slow_input(logits: Tensor, options: TrainingOptions) -> Tensor:
    return map_of_logits(logits.detach() if options.is_separate else logits)


def make_hard_examples(
    networks: CooperativeNetworks,
    batch: Batch,
    standard: StandardPass,
    options: TrainingOptions,
    draws: Draws,
) -> HardExamples:
    """Mask the codes of the standard pass and decode them; nothing keeps a graph."""
    image = logits = None
    if "image code" in options.mask_scope:
        # the released masking loss is the mean squared error, twice this: the same order
        image = _hard_example(
            networks.image_decoder,
            standard.codes.image,
            lambda: image_loss(standard.image, batch.clean),
            (draws.image, options.image_mask, draws.generator),
        )
    if "shape code" in options.mask_scope:
        logits = _hard_example(
            networks.segmentation_decoder,
            standard.codes.shape,
            lambda: F.cross_entropy(standard.logits, batch.labels),
            (draws.shape, options.shape_mask, draws.generator),
        )
    return HardExamples(image, logits)


def _hard_example(
    decoder: Decoder,
    code: Tensor,
    loss: Callable[[], Tensor],
    how: tuple[MaskDraw, MaskOptions, torch.Generator | None],
) -> Tensor:
    """Return what `decoder` makes of the masked code.

    The released code decodes a copy of the code once more for the gradient. That pass would give
    the very numbers of the standard pass, so its graph is used; what is left of the second pass
    is a second update of the decoder's running statistics.
    """
    draw, options, generator = how
    if draw.mask_type == "dropout":
        masked = drop_channels(code.detach(), draw.threshold, generator)
    else:
        (gradient,) = torch.autograd.grad(loss(), code, retain_graph=True)
        masked = code.detach() * targeted_mask(gradient, draw, options.is_soft, generator)
        track_again(decoder)
    with torch.no_grad(), protected(decoder):
        hard: Tensor = decoder(masked)
    return hard


def loss_terms(
    networks: CooperativeNetworks, batch: Batch, options: TrainingOptions, draws: Draws
) -> Terms:
    """Return all terms of one batch; the hard ones are absent in standard training."""
    standard = standard_pass(networks, batch, options)
    if not options.mask_scope:
        return standard.terms
    hard = make_hard_examples(networks, batch, standard, options, draws)
    return standard.terms | hard_pass(networks, batch, hard, options)


def total_loss(terms: Terms, options: TrainingOptions) -> Tensor:
    """Return the sum of the terms that train."""
    used = [value for name, value in terms.items() if options.has_label_loss or name != LABEL_TERM]
    return torch.stack(used).sum()

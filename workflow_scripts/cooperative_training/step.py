"""One update's loss as a module: what Fabric wraps for precision and several GPUs."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts.cooperative_training.image_space import MAKERS
from workflow_scripts.cooperative_training.losses import (
    Batch,
    Draws,
    HardExamples,
    Terms,
    TrainingOptions,
    hard_pass,
    loss_terms,
    standard_pass,
    total_loss,
)
from workflow_scripts.cooperative_training.masking import MaskOptions, draw_mask
from workflow_scripts.cooperative_training.methods import Method
from workflow_scripts.cooperative_training.networks import CooperativeNetworks
from workflow_scripts.randomness import named_rng, stream_seed
from workflow_scripts.training.streams import torch_generator


def training_options(method: Method, has_label_loss: bool = True) -> TrainingOptions:
    """Return the loss options of a method."""
    mask = MaskOptions(mask_type=method.mask_type)
    image_code, shape_code = "image code", "shape code"
    scope = [image_code] * method.image_code + [shape_code] * method.shape_code
    return TrainingOptions(
        mask_scope=tuple(scope),  # type: ignore[arg-type]  # both are scopes
        image_mask=mask,
        shape_mask=mask,
        is_separate=method.is_separate,
        has_label_loss=has_label_loss,
    )


class UpdateStreams:
    """The random streams of one update: from seed, step and micro-batch alone.

    So nothing has to be saved, and neither an interruption nor the number of GPUs moves them.
    All micro-batches of an update have the same kinds of masks and shares.
    """

    def __init__(self, seed: int, step: int, micro_batch: int, device: torch.device) -> None:
        self._seed, self._step, self._micro = seed, str(step), str(micro_batch)
        self._device = device

    def generator(self, purpose: str) -> torch.Generator:
        """Return a torch generator on the training's device."""
        words = (purpose, self._step, self._micro)
        return torch_generator(self._seed, *words, device=self._device.type)

    def image_space(self) -> np.random.Generator:
        """Return the stream of an image-space baseline."""
        return named_rng(self._seed, "image space", self._step, self._micro)

    def masks(self, options: TrainingOptions) -> Draws:
        """Draw kinds and shares of both codes' masks, image code first."""
        kinds = random.Random(stream_seed(self._seed, "mask kinds", self._step))  # noqa: S311
        shares = named_rng(self._seed, "mask shares", self._step)
        image = draw_mask(options.image_mask, kinds, shares)
        shape = draw_mask(options.shape_mask, kinds, shares)
        return Draws(image, shape, self.generator("mask values"))


class CooperativeStep(nn.Module):
    """From a batch to its loss terms.

    Attributes:
        networks: the five sub-networks.
    """

    def __init__(self, networks: CooperativeNetworks, method: Method, label_loss: bool) -> None:
        super().__init__()
        self.networks = networks
        self.method = method
        self.options = training_options(method, label_loss)

    def forward(self, batch: Batch, streams: UpdateStreams) -> tuple[Tensor, Terms]:
        """Return the total loss, and the terms for the history (detached)."""
        if self.method.image_space in MAKERS:
            standard = standard_pass(self.networks, batch, self.options)
            image = MAKERS[self.method.image_space](batch.clean, streams.image_space())
            hard = HardExamples(image, None)
            terms = standard.terms | hard_pass(self.networks, batch, hard, self.options)
        else:
            terms = loss_terms(self.networks, batch, self.options, streams.masks(self.options))
        logged = {name: value.detach() for name, value in terms.items()}
        return total_loss(terms, self.options), logged

"""Sizes and lengths of a training, from the configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from workflow_scripts.problems import InputError, Problem, nearest

if TYPE_CHECKING:
    from workflow_scripts.networks.scse_unet import UNetWidths


@dataclass(frozen=True, slots=True)
class Settings:
    """What `config.yaml` sets; each knob is explained there.

    Attributes:
        epochs: passes over the training data.
        batch: cases behind one update.
        learning_rate: at the start.
        lowest_learning_rate: of the plateau schedule.
        plateau_factor: what a learning rate is multiplied by.
        plateau_epochs: epochs without a better validation loss until then.
        early_stopping_epochs: the same until the training ends.
        members: networks of deep ensembles.
        heads: of multi-head.
        encoder_width: channels after the stem.
        decoder_widths: channels after each decoder block.
        log_every: updates behind one row of the history.
    """

    epochs: int
    batch: int
    learning_rate: float
    lowest_learning_rate: float
    plateau_factor: float
    plateau_epochs: int
    early_stopping_epochs: int
    members: int
    heads: int
    encoder_width: int
    decoder_widths: tuple[int, ...]
    log_every: int

    @property
    def widths(self) -> UNetWidths:
        """The U-Net's numbers of channels."""
        from workflow_scripts.networks.scse_unet import UNetWidths

        return UNetWidths(self.encoder_width, self.decoder_widths)


def settings_from(text: str) -> Settings:
    """Return the settings in a JSON object.

    Raises:
        InputError: a key is unknown or missing.
    """
    content: dict[str, Any] = json.loads(text)
    names = [field.name for field in fields(Settings)]
    problems = [
        Problem(f"settings key {key}", "a known key", repr(key), nearest(key, names))
        for key in content
        if key not in names
    ]
    problems += [
        Problem("settings", f"the key {name}", "none", "add it")
        for name in names
        if name not in content
    ]
    if problems:
        raise InputError(problems)
    return Settings(**{**content, "decoder_widths": tuple(content["decoder_widths"])})

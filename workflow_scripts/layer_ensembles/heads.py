"""Light output heads on inner layers: one for maps of classes, one for a vector.

Source: spec sections 2.1 and 2.3. In both, the trained layer is a fixed child (the convolution
is number 1, the linear layer number 3), as in the released code.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from workflow_scripts.networks.scse_unet import segmentation_conv

Task = Literal["segmentation", "classification", "regression"]
TASKS: tuple[Task, ...] = ("segmentation", "classification", "regression")
POOLINGS: dict[str, type[nn.Module]] = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


def segmentation_head(
    n_in: int,
    scale: int,
    n_classes: int,
    dropout: float | None = None,
    activation: nn.Module | None = None,
    *,
    xavier: bool = True,
) -> nn.Sequential:
    """Return a head from features (N, n_in, H/scale, W/scale) to logits (N, C, H, W).

    Args:
        n_in: channels of the features.
        scale: whole-number factor from their sides to the image's.
        n_classes: C.
        dropout: share of channels dropped before the convolution; None: none.
        activation: applied last; None: logits.
        xavier: initialise as the paper's runs; otherwise torch's default (newest commit).
    """
    conv = segmentation_conv(n_in, n_classes)
    if not xavier:
        conv.reset_parameters()
    return nn.Sequential(
        nn.Dropout2d(dropout) if dropout else nn.Identity(),
        conv,
        nn.UpsamplingBilinear2d(scale_factor=scale) if scale > 1 else nn.Identity(),  # aligned
        activation or nn.Identity(),
    )


def vector_head(
    n_in: int,
    n_out: int,
    pooling: str = "avg",
    dropout: float | None = None,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Return a head from features (N, n_in, h, w) to class logits or targets (N, n_out).

    Raises:
        ValueError: `pooling` is neither `avg` nor `max`.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling: expected {' or '.join(POOLINGS)}, found {pooling!r}")
    return nn.Sequential(
        POOLINGS[pooling](1),
        nn.Flatten(),
        nn.Dropout(dropout) if dropout else nn.Identity(),
        nn.Linear(n_in, n_out),
        activation or nn.Identity(),
    )

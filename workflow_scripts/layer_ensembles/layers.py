"""Finding the layers of a network that can carry a head: one dry pass says their sizes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workflow_scripts.problems import Problem, refuse

TOKEN_AXES, MAP_AXES = 3, 4
MIN_LAYERS = 2  # fewer make no curve of agreements
OUT = "out"  # where torchvision's segmentation networks put their logits


class Call(NamedTuple):
    """The last call of a layer in the dry pass.

    Attributes:
        output: what it returned.
        version: how often the output had been changed in place by then.
    """

    output: Any
    version: int


class FeatureShape(NamedTuple):
    """What a head has to know: channels, and the whole-number factor to the image's sides."""

    channels: int
    scale: int


def main_output(final: Any) -> Tensor:  # noqa: ANN401
    """Return the tensor of a network's own output; of a dictionary its entry `out`."""
    if isinstance(final, Mapping) and OUT in final:
        final = final[OUT]
    if not isinstance(final, Tensor):
        step = "wrap the network so that it returns one"
        raise refuse("the network's own output", "a tensor", type(final).__name__, step)
    return final


def dry_pass(model: nn.Module, example: Tensor) -> tuple[dict[str, Call], Any]:
    """Return the last call of every layer, in the order in which they ended, and the output.

    In evaluation mode and without gradients, so that running statistics stay as they are; the
    mode is put back.
    """
    calls: dict[str, Call] = {}
    handles = []
    for name, module in model.named_modules():
        if name:

            def keep(_: nn.Module, __: object, output: Any, name: str = name) -> None:  # noqa: ANN401
                calls.pop(name, None)
                version = output._version if isinstance(output, Tensor) else 0
                calls[name] = Call(output, version)

            handles.append(module.register_forward_hook(keep))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            final = model(example)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return calls, final


def as_map(feature: Tensor, prefix_tokens: int | None, channels: int | None = None) -> Tensor:
    """Return features as maps (N, C, h, w); tokens (N, L, C) are laid out on their square grid.

    Args:
        feature: maps, which stay as they are unless their channels come last, or tokens.
        channels: C of maps; None: the channels come first.
        prefix_tokens: tokens in front that belong to no place; None: one if that leaves a square
            number, else none.

    Raises:
        ValueError: neither, or a number of tokens that is no square.
    """
    if feature.ndim == MAP_AXES:
        return feature if channels in (None, feature.shape[1]) else feature.movedim(-1, 1)
    if feature.ndim != TOKEN_AXES:
        raise ValueError(f"features of shape {tuple(feature.shape)} are neither maps nor tokens")
    n_tokens = feature.shape[1]
    for skipped in (0, 1) if prefix_tokens is None else (prefix_tokens,):
        side = int((n_tokens - skipped) ** 0.5 + 0.5)  # math.isqrt cannot be compiled
        if side * side == n_tokens - skipped:
            grid = feature[:, skipped:].transpose(1, 2)
            return grid.reshape(feature.shape[0], feature.shape[2], side, side)
    raise ValueError(f"{n_tokens} tokens do not form a square")


def shape_of(
    model: nn.Module, calls: Mapping[str, Call], name: str, example: Tensor, *, is_exact: bool
) -> FeatureShape | Problem:
    """Return channels and scale of a layer, or what keeps it from carrying a head.

    Args:
        model: the network.
        calls: of its dry pass.
        name: of the layer.
        example: what it was called with, shape (N, channels, H, W).
        is_exact: the scale has to be a whole number, as maps of full size need; heads that give
            a vector take any.
    """
    if name not in calls:
        names = [known for known, _ in model.named_modules()]
        close = difflib.get_close_matches(name, names, n=1)
        step = f"did you mean {close[0]!r}?" if close else "print the names of named_modules()"
        what = "a layer that the pass calls" if name in names else "a layer of the network"
        return Problem(f"layer {name!r}", what, "none", step)
    output, version = calls[name]
    if isinstance(output, Tensor) and output._version != version:
        found = "features that a later layer changes in place"
        return Problem(f"layer {name!r}", "features", found, "name that later layer instead")
    fitting = _fitting(output, example, getattr(model, "num_prefix_tokens", None), is_exact)
    if fitting is None:
        shown = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        expected = f"maps of {tuple(example.shape)}"
        if is_exact:
            expected = f"maps whose sides are those of {tuple(example.shape)} over a whole number"
        return Problem(f"layer {name!r}", expected, str(shown), "name another layer")
    return fitting


def _fitting(
    output: Any,  # noqa: ANN401
    example: Tensor,
    prefix_tokens: int | None,
    is_exact: bool,
) -> FeatureShape | None:
    """Return the shape of features that can carry a head, else None."""
    if not isinstance(output, Tensor) or output.ndim not in (TOKEN_AXES, MAP_AXES):
        return None
    if len(output) != len(example):  # such as the windows of a shifted-window transformer
        return None
    try:
        channels, height, width = as_map(output, prefix_tokens).shape[1:]
    except ValueError:
        return None
    orders = [(channels, height, width)]
    if output.ndim == MAP_AXES:  # timm's and torchvision's Swin have channels last
        orders.append((width, channels, height))
    for n_channels, rows, columns in orders:
        scale = _scale(rows, columns, example, is_exact)
        if scale:
            return FeatureShape(n_channels, scale)
    return None


def _scale(rows: int, columns: int, example: Tensor, is_exact: bool) -> int:
    """Return the factor to the example's sides; 0 if there is none."""
    height, width = example.shape[-2:]
    longer, sides = (height, rows) if height > width else (width, columns)  # rounded least
    scale = round(longer / sides) if sides else 0
    if not scale:
        return 0
    if is_exact:
        return scale if (rows * scale, columns * scale) == (height, width) else 0
    # strided layers round sides up or down, once in each halving
    is_near = abs(rows - height / scale) <= 1 and abs(columns - width / scale) <= 1
    return scale if is_near else 0


def spread_layers(
    model: nn.Module,
    calls: Mapping[str, Call],
    final: Any,  # noqa: ANN401
    example: Tensor,
    *,
    is_exact: bool,
) -> list[str]:
    """Return the last layer before each change of resolution, shallow to deep.

    Features of one pixel (squeezed by attention or pooling) and layers inside a block that itself
    changes the resolution do not count; the resolution that ends with the network's own output
    needs no head of its own.

    Raises:
        InputError: the resolution changes too rarely, as in transformers.
    """
    scales: dict[str, int] = {}
    for name, (output, _) in calls.items():
        fitting = _fitting(output, example, None, is_exact)
        if fitting is not None and fitting.scale < min(example.shape[-2:]):
            scales[name] = fitting.scale
    runs: list[tuple[int, list[str]]] = []
    for name, scale in scales.items():
        if not runs or runs[-1][0] != scale:
            runs.append((scale, []))
        runs[-1][1].append(name)
    own = main_output(final)
    if runs and any(calls[name].output is own for name in runs[-1][1]):
        runs.pop()
    found = [[name for name in names if _is_free(model, calls, scales, name)] for _, names in runs]
    chosen = [names[-1] for names in found if names]
    if len(chosen) < MIN_LAYERS:
        expected = f"{MIN_LAYERS} changes of resolution to put heads at"
        step = r"name the layers, such as layers=r'blocks\.\d+' for a transformer"
        raise refuse("layers", expected, f"{len(chosen)}", step)
    return chosen


def _is_free(
    model: nn.Module, calls: Mapping[str, Call], scales: Mapping[str, int], name: str
) -> bool:
    """Tell whether a layer's features stay as they are, and end no step within a block."""
    output, version = calls[name]
    parent = name.rpartition(".")[0]
    is_inside = scales.get(parent, scales[name]) != scales[name] and not isinstance(
        model.get_submodule(parent), nn.Sequential
    )
    return output._version == version and not is_inside

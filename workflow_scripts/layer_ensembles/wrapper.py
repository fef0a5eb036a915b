"""Any torch network with output heads on its inner layers: uncertainty from one forward pass.

    network = attach_heads(my_network, images[:1], task="segmentation", n_classes=2)
    outputs = network(images)  # one prediction a layer, shallow to deep, and "final"

Source: spec sections 2.2 and 2.3, whose hazards are avoided: no feature outlives its pass, the
dry pass leaves running statistics alone, and no head is made that is never used.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workflow_scripts.layer_ensembles.heads import TASKS, Task, segmentation_head, vector_head
from workflow_scripts.layer_ensembles.layers import (
    OUT,
    FeatureShape,
    as_map,
    dry_pass,
    main_output,
    shape_of,
    spread_layers,
)
from workflow_scripts.problems import InputError, Problem, refuse

FINAL = "final"  # name of the network's own output
Outputs = OrderedDict[str, Any]


class LayerEnsembles(nn.Module):
    """A network whose inner layers are listened to.

    Before `set_output_heads` a call returns the raw features by layer name and the network's own
    output as `final`; afterwards the outputs of the heads, in the order of `layer_names`, and
    `final`, untouched. A layer that is called several times in a pass counts with its last call.

    Args:
        model: the network; becomes the attribute `model`.
        layer_names: names out of `model.named_modules()`, shallow to deep.

    Raises:
        KeyError: the network has no layer of a name.
    """

    def __init__(self, model: nn.Module, layer_names: Sequence[str]) -> None:
        super().__init__()
        modules = dict(model.named_modules())
        for name in layer_names:
            if name not in modules or not name:
                raise KeyError(f"no layer {name!r} in {type(model).__name__}")
        self.model = model
        self.layer_names = tuple(layer_names)
        self.task: Task | None = None
        self.prefix_tokens = getattr(model, "num_prefix_tokens", None)  # timm's transformers
        self._features: dict[str, Tensor] = {}
        for name in self.layer_names:
            # bound, so that a deep copy of the network listens to its own layers
            modules[name].register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        self._features[name] = output

    def set_output_heads(
        self,
        in_channels: Sequence[int],
        scale_factors: Sequence[int],
        task: Task,
        classes: int,
        pooling: str = "avg",
        activation: nn.Module | None = None,
        dropout: float | None = None,
        *,
        xavier: bool = True,
    ) -> None:
        """Put a head on each layer, once.

        Args:
            in_channels: of each layer's features.
            scale_factors: from each layer's sides to the image's; segmentation uses them.
            task: `segmentation`, `classification`, or `regression` (`classes` targets).
            classes: logits or targets of each head.
            pooling: `avg` or `max`, for vectors.
            activation: applied after each head; None: logits.
            dropout: share dropped before each head; None: none.
            xavier: initialisation of segmentation heads, see `segmentation_head`.

        Raises:
            ValueError: heads are there already, an unknown task or pooling, or not one channel
                number and scale a layer.
        """
        if self.task is not None:
            raise ValueError("output heads can be set only once")
        if task not in TASKS:
            raise ValueError(f"task: expected {', '.join(TASKS)}, found {task!r}")
        if not len(in_channels) == len(scale_factors) == len(self.layer_names):
            raise ValueError(f"expected channels and scale of {len(self.layer_names)} layers")
        if task == "segmentation":
            made = [
                segmentation_head(n_in, scale, classes, dropout, activation, xavier=xavier)
                for n_in, scale in zip(in_channels, scale_factors, strict=True)
            ]
        else:
            made = [
                vector_head(n_in, classes, pooling, dropout, activation) for n_in in in_channels
            ]
        self.output_heads = nn.ModuleList(made)
        self.in_channels = tuple(in_channels)
        self.task = task

    def forward(self, *inputs: Any, **named: Any) -> Outputs:  # noqa: ANN401
        """Return the outputs by layer, shallow to deep, then `final`.

        Raises:
            RuntimeError: a layer was not called, or this is a replica of `nn.DataParallel`,
                whose hooks belong to the original.
            ValueError: sides that a layer's stride does not divide.
        """
        if getattr(self, "_is_replica", False):
            raise RuntimeError("nn.DataParallel is not supported; use DistributedDataParallel")
        self._features.clear()
        final = self.model(*inputs, **named)
        missing = [name for name in self.layer_names if name not in self._features]
        if missing:
            raise RuntimeError(
                f"layers {', '.join(missing)} were not called in this pass; "
                "wrap a network before it is compiled, and name layers that every input passes"
            )
        outputs: Outputs = OrderedDict()
        for number, name in enumerate(self.layer_names):
            feature = self._features[name]
            if self.task is not None:
                maps = as_map(feature, self.prefix_tokens, self.in_channels[number])
                feature = self.output_heads[number](maps)
                _check_size(name, feature, final)
            outputs[name] = feature
        self._features.clear()
        outputs[FINAL] = final
        return outputs


def _check_size(name: str, logits: Tensor, final: Any) -> None:  # noqa: ANN401
    """Raise if the head's logits do not fit the network's own, where both are maps."""
    own = final.get(OUT) if isinstance(final, Mapping) else final
    if isinstance(own, Tensor) and own.shape[2:] != logits.shape[2:]:
        raise ValueError(
            f"the head of layer {name!r} gives {tuple(logits.shape[2:])} pixels, the network "
            f"{tuple(own.shape[2:])}: pad or resize the images to multiples of its stride"
        )


def attach_heads(
    model: nn.Module,
    example: Tensor,
    task: Task,
    n_classes: int,
    layers: Sequence[str] | str | None = None,
    *,
    pooling: str = "avg",
    dropout: float | None = None,
    xavier: bool = True,
) -> LayerEnsembles:
    """Return `model` with a head on each chosen layer; one dry pass finds their sizes.

    Args:
        model: any network from images to logits of `n_classes` (segmentation: of full size).
        example: a batch that it takes, shape (N, channels, H, W); its values do not matter.
        task: what the network does.
        n_classes: its classes (or targets).
        layers: names, or a regular expression that whole names must match, such as
            `.*\\.relu`; None: the last layer before each change of resolution.
        pooling: of vector heads.
        dropout: before each head.
        xavier: initialisation of segmentation heads.

    Raises:
        InputError: no layer fits, a layer's features cannot carry a head, or the network's own
            output does not have the classes and size of the heads.
    """
    calls, final = dry_pass(model, example)
    is_exact = task == "segmentation"
    if layers is None:
        names = spread_layers(model, calls, final, example, is_exact=is_exact)
    else:
        names = _chosen(model, layers)
    if not names:
        raise refuse("layers", "at least one layer", f"none for {layers!r}", "name other layers")
    shapes: dict[str, FeatureShape] = {}
    problems: list[Problem] = []
    for name in names:
        found = shape_of(model, calls, name, example, is_exact=is_exact)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            shapes[name] = found
    problems += _output_problems(main_output(final), example, task, n_classes)
    if problems:
        raise InputError(problems)
    wrapped = LayerEnsembles(model, names)
    wrapped.set_output_heads(
        [shapes[name].channels for name in names],
        [shapes[name].scale for name in names],
        task,
        n_classes,
        pooling,
        dropout=dropout,
        xavier=xavier,
    )
    return wrapped.to(example.device)


def _chosen(model: nn.Module, layers: Sequence[str] | str) -> list[str]:
    """Return the named layers, or all whose names match the expression, in the network's order."""
    if not isinstance(layers, str):
        return list(layers)
    expression = re.compile(layers)
    return [name for name, _ in model.named_modules() if name and expression.fullmatch(name)]


def _output_problems(output: Tensor, example: Tensor, task: Task, n_classes: int) -> list[Problem]:
    """Return what keeps the network's own output from being one of the ensemble."""
    expected = (example.shape[0], n_classes)
    if task == "segmentation":
        expected = (*expected, *example.shape[2:])
    if tuple(output.shape) == tuple(expected):
        return []
    step = "give the network this output, or change n_classes"
    return [
        Problem("the network's own output", f"shape {expected}", f"{tuple(output.shape)}", step)
    ]


def head_logits(outputs: Tensor | Mapping[str, Any] | Sequence[Tensor]) -> list[Tensor]:
    """Return the T predictions of a pass, shallow to deep, the network's own last.

    Takes what `LayerEnsembles` returns, a list of predictions, or a single one.
    """
    if isinstance(outputs, Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return [main_output(value) for value in values]


def total_loss(
    outputs: Tensor | Mapping[str, Any] | Sequence[Tensor], criterion: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the plain sum of `criterion` over all predictions (spec section 4)."""
    return torch.stack([criterion(logits) for logits in head_logits(outputs)]).sum()

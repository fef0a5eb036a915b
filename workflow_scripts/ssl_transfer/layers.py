"""What a backbone computes at a named depth.

Source: the layer names of SSL transfer, spec section 9.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from workflow_scripts.problems import nearest, refuse

RESNET = {name: name for name in ("conv1", "bn1", "maxpool", "avgpool")} | {
    f"layer{number}": f"layer{number}" for number in range(1, 5)
}
DENSENET = {f"{name}0": f"features.{name}0" for name in ("conv", "norm", "relu", "pool")} | {
    **{f"layer{number}": f"features.denseblock{number}" for number in range(1, 5)},
    **{f"transition{number}": f"features.transition{number}" for number in range(1, 4)},
    "norm5": "features.norm5",
}
POOLED = "fc"  # the backbone's own output: the pooled vector


def layer_names(network: nn.Module) -> dict[str, str]:
    """Return the name of each depth with the module that computes it.

    For a transformer, `layer1` to `layer4` are the tokens after each quarter of its blocks.
    """
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.Sequential):
        n_blocks = len(blocks)
        return {f"layer{n}": f"blocks.{n * n_blocks // 4 - 1}" for n in range(1, 5)}
    known = DENSENET if hasattr(network, "features") else RESNET
    modules = dict(network.named_modules())
    return {name: module for name, module in known.items() if module in modules}


def layer_features(network: nn.Module, layer: str) -> Callable[[Tensor], Tensor]:
    """Return the function from images (N, 3, H, W) to what the network computes at a depth.

    Raises:
        InputError: the network has no such depth.
    """
    if layer == POOLED:
        return network
    names = layer_names(network)
    if layer not in names:
        choices = ", ".join([*names, POOLED])
        raise refuse("--layer", choices, repr(layer), nearest(layer, names) or "choose one")
    found: list[Tensor] = []
    # a copy: the rectifier that follows some layers overwrites what it is given
    network.get_submodule(names[layer]).register_forward_hook(
        lambda _module, _input, output: found.append(output.clone())
    )

    def features(images: Tensor) -> Tensor:
        """Return what the layer computes."""
        found.clear()
        network(images)
        return found.pop()

    return features

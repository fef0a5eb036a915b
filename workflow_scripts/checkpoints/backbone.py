"""Feature networks by name: torchvision or timm without the classifier.

A backbone maps images, shape (N, 3, H, W), to features, shape (N, F): the input of the
classifier it had. For ResNets that is the global average pool, for DenseNets ReLU and average
pool of the last feature map (spec section 2.1). A name may carry variants, such as
`resnet50+gray` (see `variants`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from workflow_scripts.checkpoints.conversion import ConvertedTensors, prove_complete
from workflow_scripts.checkpoints.options import split_name
from workflow_scripts.checkpoints.source_file import read_safetensors
from workflow_scripts.checkpoints.variants import require_variants, with_variants
from workflow_scripts.networks.resnet import DEPTHS, resnet
from workflow_scripts.problems import nearest, refuse

LIBRARIES = ("timm", "torchvision")
# Their published weights expect the input rescaled inside the network; the auxiliary
# classifiers serve training only (torchvision's weight descriptions).
INCEPTION: dict[str, Any] = {"transform_input": True, "aux_logits": False, "init_weights": True}
SPECIAL_ARGUMENTS = {"googlenet": INCEPTION, "inception_v3": INCEPTION}
AUXILIARY_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def require_architecture(library: str, architecture: str) -> None:
    """Refuse a library or network name that does not exist, with the nearest one that does."""
    if library not in LIBRARIES:
        raise refuse(
            "checkpoint option 'library'",
            f"one of {', '.join(LIBRARIES)}",
            repr(library),
            "name the library that has the architecture",
        )
    require_variants(library, architecture)
    architecture = split_name(architecture)[0]
    if library == "timm":
        import timm

        if timm.is_model(architecture):
            return
        names = timm.list_models()
    elif architecture in DEPTHS:
        return
    else:
        from torchvision import models

        names = models.list_models(module=models)
        if architecture in names:
            return
    raise refuse(
        "checkpoint option 'architecture'",
        f"a classification network of {library}",
        repr(architecture),
        nearest(architecture, names),
    )


def build_network(library: str, architecture: str) -> nn.Module:
    """Return the whole network, classifier included and variants not, freshly initialised."""
    require_architecture(library, architecture)
    architecture = split_name(architecture)[0]
    if library == "timm":
        return create_timm(architecture)
    if architecture in DEPTHS:
        return resnet(architecture)
    from torchvision import models

    arguments = SPECIAL_ARGUMENTS.get(architecture, {})
    network: nn.Module = models.get_model(architecture, weights=None, **arguments)
    return network


def create_timm(
    architecture: str, n_classes: int | None = None, global_pool: str | None = None
) -> nn.Module:
    """Return a timm network; a weight tag after the dot that timm does not know is refused.

    `n_classes` 0 leaves the classifier out, None keeps the library's number; `global_pool`
    is the read-out of a transformer.
    """
    import timm

    pool: dict[str, Any] = {"global_pool": global_pool} if global_pool else {}
    try:
        network: nn.Module = timm.create_model(
            architecture, pretrained=False, num_classes=n_classes, **pool
        )
    except RuntimeError as error:
        name = architecture.split(".")[0]
        raise refuse(
            "checkpoint option 'architecture'",
            "a name that timm can build",
            f"{architecture!r} ({error})",
            f"write {name!r}, without what follows the dot",
        ) from error
    return network


def classifier_of(network: nn.Module) -> str:
    """Return the name of a torchvision network's classifier: its last linear layer.

    SqueezeNet alone has none: its classifier is the last convolution.
    """
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, part in network.named_modules() if isinstance(part, kind)]
        if names:
            return str(names[-1])
    raise ValueError("a network without linear layer and convolution has no classifier")


@lru_cache
def classifier_prefixes(library: str, architecture: str) -> tuple[str, ...]:
    """Return what the names of the classifier's tensors begin with, such as `('fc.',)`."""
    network = build_network(library, architecture)
    if library == "torchvision":
        return (f"{classifier_of(network)}.", *AUXILIARY_HEADS.get(architecture, ()))
    description: Any = network.pretrained_cfg
    names = description.get("classifier") or ()  # one name, or one a head
    names = names if isinstance(names, (tuple, list)) else [names]
    return tuple(f"{name}." for name in names)


def build_backbone(library: str, architecture: str) -> nn.Module:
    """Return the feature network in evaluation mode, freshly initialised."""
    require_architecture(library, architecture)
    plain, variants = split_name(architecture)
    if library == "timm":
        pool = "avg" if "pooled" in variants else None
        return with_variants(create_timm(plain, 0, pool), variants).eval()
    network = build_network(library, plain)
    parent, _, name = classifier_of(network).rpartition(".")
    setattr(network.get_submodule(parent), name, nn.Identity())
    return with_variants(network, variants).eval()


def expected_tensors(library: str, architecture: str) -> dict[str, Tensor]:
    """Return the tensors that a backbone must have, by name (their values mean nothing)."""
    return dict(build_backbone(library, architecture).state_dict())


def load_backbone(path: Path, library: str, architecture: str) -> nn.Module:
    """Return the feature network with the weights of a `backbone.safetensors`, strictly loaded.

    Callers that start from files use `certificate.load_checked`, which proves them first.

    Raises:
        InputError: if a tensor is missing, extra or misshapen, or the file is damaged.
    """
    network = build_backbone(library, architecture)
    tensors = read_safetensors(path)
    prove_complete(str(path), ConvertedTensors(tensors, (), ()), network.state_dict())
    network.load_state_dict(tensors, strict=True)
    return network

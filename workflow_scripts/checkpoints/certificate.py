"""The certificate of a backbone: where it came from, that nothing is missing, what it computes.

Every consumer starts with `load_checked`: a backbone whose bytes are not those of its
certificate, or whose features differ here, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from workflow_scripts.checkpoints.backbone import load_backbone
from workflow_scripts.checkpoints.conversion import ConvertedTensors
from workflow_scripts.checkpoints.file_kind import is_phantom, shown
from workflow_scripts.checkpoints.formats import library_of
from workflow_scripts.checkpoints.options import CheckpointOptions, split_name
from workflow_scripts.checkpoints.variants import n_channels
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.problems import InputError, Problem, refuse

N_FIRST = 8  # features printed in the certificate
FORWARD_TOLERANCE = 1e-4  # of the norm; machines and batch sizes differ by 2e-6 (performance 3)
CONVERT_AGAIN = "delete both files and convert the checkpoint again"
FIELDS = ("library", "architecture", "backbone_sha256", "key_map", "forward", "input", "phantom")


def fixed_input(size_px: int) -> Tensor:
    """Return the image of the forward value, shape (1, 3, size, size), float32 in [0, 1].

    Integer arithmetic and one division, so that it is the same in every library version.

    >>> fixed_input(2)[0, :, 1, 1].mul(255).tolist()
    [55.0, 156.0, 1.0]
    """
    row = torch.arange(size_px).view(1, size_px, 1)
    column = torch.arange(size_px).view(1, 1, size_px)
    channel = torch.arange(3).view(3, 1, 1)
    levels = (31 * row + 17 * column + 7 * row * column + 101 * channel) % 256
    return (levels.to(torch.float32) / 255).unsqueeze(0)


def forward_value(network: nn.Module, size_px: int) -> dict[str, Any]:
    """Return the features of the fixed image: count, norm and first values.

    Raises:
        InputError: if the network takes no image of this size, or gives no finite vector.
    """
    where = f"backbone on a {size_px} px image"
    try:
        with torch.inference_mode():
            features = network.eval()(fixed_input(size_px)[:, : n_channels(network)])
    except (RuntimeError, AssertionError, ValueError) as error:
        raise refuse(
            where,
            "features",
            str(error).splitlines()[0][:160],
            "set size_px of this checkpoint to the side its architecture takes",
        ) from error
    if features.ndim != 2 or not bool(torch.isfinite(features).all()):
        raise refuse(
            where,
            "one finite vector of features",
            f"shape {tuple(features.shape)}, {int((~torch.isfinite(features)).sum())} not finite",
            "take an architecture whose features are a vector; check the weights",
        )
    values = features[0].double()
    return {
        "image": f"(31 row + 17 column + 7 row column + 101 channel) mod 256 / 255, {size_px} px",
        "size_px": size_px,
        "features": int(values.numel()),
        "norm": float(values.norm()),
        "first": values[:N_FIRST].tolist(),
    }


def make_certificate(
    checkpoint: str,
    options: CheckpointOptions,
    source: Path | None,
    converted: ConvertedTensors,
    backbone: Path,
) -> dict[str, Any]:
    """Return the certificate of a written backbone (fields: docs/reference/files.md)."""
    library = library_of(options)
    network = load_backbone(backbone, library, options.architecture)
    forward = forward_value(network, options.size_px)
    phantom = source is not None and is_phantom(source)
    return {
        "checkpoint": checkpoint,
        "format": options.format,
        "library": library,
        "architecture": options.architecture,
        "feature_dim": forward["features"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "pretrained": source is not None and not phantom,
        "phantom": phantom,
        "source": {
            "file": source.name if source else None,
            "url": options.url or None,
            "sha256": sha256_of(source) if source else None,
            "seed": None if source else options.seed,
        },
        "backbone_sha256": sha256_of(backbone),
        "key_map": [asdict(line) for line in converted.key_map],
        "ignored": list(converted.ignored),
        "missing": [],
        "unexpected": [],
        "forward": forward,
        "input": input_description(options),
        "pretraining": options.pretraining,
        "licence": options.licence,
    }


def input_description(options: CheckpointOptions) -> dict[str, Any]:
    """Return what the network expects of its input."""
    normalisation = options.normalisation
    return {
        "size": options.size_px,
        "channels": "gray" if "gray" in split_name(options.architecture)[1] else "RGB",
        "mean": normalisation.mean and list(normalisation.mean),
        "std": normalisation.std and list(normalisation.std),
        "interpolation": options.interpolation,
        "normalisation": normalisation.kind,
    }


def check(backbone: Path, certificate: Path) -> dict[str, Any]:
    """Return the certificate if `backbone` is the file it was made for.

    Raises:
        InputError: if a file is missing, the certificate lacks a field, or the bytes differ; the
            message tells renamed or missing tensors from altered values.
    """
    for path in (backbone, certificate):
        if not path.is_file():
            raise refuse(str(path), "a file", "none", "convert the checkpoint first")
    try:
        content = read_json(certificate)
    except ValueError as error:
        raise refuse(str(certificate), "a JSON object", str(error), CONVERT_AGAIN) from error
    absent = [field for field in FIELDS if field not in content]
    if absent:
        raise refuse(str(certificate), "a certificate", f"no {shown(absent)}", CONVERT_AGAIN)
    digest = sha256_of(backbone)
    if digest != content["backbone_sha256"]:
        raise InputError(difference(backbone, digest, content))
    return content


def difference(backbone: Path, digest: str, content: Mapping[str, Any]) -> list[Problem]:
    """Return how a backbone that is not the certified one differs from it."""
    want = f"sha256 {content['backbone_sha256']}, as its certificate says"
    problems = [Problem(str(backbone), want, f"sha256 {digest}", CONVERT_AGAIN)]
    certified = {
        line["target"]: (line["dtype"], tuple(line["shape"])) for line in content["key_map"]
    }
    try:
        found = described_tensors(backbone)
    except SafetensorError as error:
        return [*problems, Problem(str(backbone), "a safetensors file", str(error), CONVERT_AGAIN)]
    missing = sorted(certified.keys() - found.keys())
    extra = sorted(found.keys() - certified.keys())
    altered = [name for name in certified if name in found and certified[name] != found[name]]
    for expected, names in (
        ("every certified tensor", [f"missing {name}" for name in missing]),
        ("only certified tensors", [f"unexpected {name}" for name in extra]),
        ("tensors of the certified shape", [f"{found[name]} of {name}" for name in altered]),
    ):
        if names:
            problems.append(Problem(str(backbone), expected, shown(names), CONVERT_AGAIN))
    if len(problems) == 1:
        names_fit = "the same names and shapes, other values"
        problems.append(Problem(str(backbone), "the certified values", names_fit, CONVERT_AGAIN))
    return problems


def described_tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each tensor in a safetensors file, without reading values."""
    names = {"F32": "float32", "I64": "int64"}  # the two that backbones hold
    with safe_open(path, framework="pt") as handle:
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
        return {
            name: (names.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()))
            for name, part in slices.items()
        }


def load_checked(backbone: Path, certificate: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the feature network, in evaluation mode, and its certificate, both proven.

    The bytes must be the certified ones, and the features of the fixed image must come out as
    certified with the libraries installed here.
    """
    content = check(backbone, certificate)
    network = load_backbone(backbone, content["library"], content["architecture"])
    certified = content["forward"]
    found = forward_value(network, certified["size_px"])
    values, certified_values = ((v["norm"], *v["first"]) for v in (found, certified))
    gap = math.inf
    if found["features"] == certified["features"]:
        gap = max(abs(a - b) for a, b in zip(values, certified_values, strict=True))
    if gap > FORWARD_TOLERANCE * certified["norm"]:
        raise refuse(
            f"{certificate} key 'forward'",
            f"{certified['features']} features of norm {certified['norm']:.6g}",
            f"{found['features']} of norm {found['norm']:.6g}, off by {gap:.3g}",
            "install the locked versions of torch and of the network library, or convert again",
        )
    return network, content

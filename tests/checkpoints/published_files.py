"""Cases for the tests: phantoms of published files, and the step that converts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from workflow_scripts.checkpoints import convert


class Case(NamedTuple):
    """A published file, under its published name."""

    format: str
    architecture: str
    file: str
    n_tensors: int  # of the backbone (spec section 2.1; timm's counted by timm)


R18 = Case("torchvision", "resnet18", "resnet18-f37072fd.pth", 120)
D121 = Case("torchvision", "densenet121", "densenet121-a639ec97.pth", 725)
R50 = Case("torchvision", "resnet50", "resnet50-0676ba61.pth", 318)
MOCO = Case("moco_v2", "resnet50", "moco_v2_800ep_pretrain.pth.tar", 318)
VIT = Case("timm", "vit_tiny_patch16_224", "model.safetensors", 150)
TIMM_R18 = Case("timm", "resnet18", "pytorch_model.bin", 120)
# ResNet-18 stands for the ResNet-50 of BYOL, SwAV and PIRL: the same names, a quarter the size.
SIMCLR = Case("simclr_tf", "resnet50", "ResNet50_1x.zip", 318)
BYOL = Case("byol_haiku", "resnet18", "pretrain_res50x1.pkl", 120)
SWAV = Case("swav", "resnet18", "swav_800ep_pretrain.pth.tar", 120)
PIRL = Case("pirl", "resnet18", "PIRL.pth", 120)
CXR_R18 = Case("moco_cxr", "resnet18", "r8w-00001.pth.tar", 120)
CXR_D121 = Case("moco_cxr", "densenet121", "d1w-00001.pth.tar", 725)
CHEXPERT_FILE = "mimic-chexpert_lr_0.1_bs_128_fd_128_qs_65536.pt"
CHEXPERT = Case("mimic_chexpert", "densenet121", CHEXPERT_FILE, 725)
MAE = Case("mae_vit", "vit_tiny_patch16_224", "vit-b_CXR_0.5M_mae.pth", 150)
ZOO = (SIMCLR, BYOL, SWAV, PIRL, CXR_R18, CXR_D121, CHEXPERT, MAE)
CASES = (R18, D121, R50, MOCO, VIT, TIMM_R18, *ZOO)


def entry(case: Case, **more: Any) -> dict[str, Any]:
    """Return the configuration entry of a case; small images keep the tests fast."""
    size_px = 224 if "vit" in case.architecture else 64
    base = {"format": case.format, "architecture": case.architecture, "size_px": size_px}
    return base | {"normalisation": "imagenet"} | more


def run_convert(folder: Path, options: dict[str, Any], source: Path | None) -> tuple[Path, Path]:
    """Run the step and return backbone and certificate."""
    backbone, certificate = folder / "backbone.safetensors", folder / "certificate.json"
    arguments = ["--checkpoint", "test", "--options", json.dumps(options)]
    arguments += ["--source", str(source)] if source else []
    convert.main([*arguments, "--backbone", str(backbone), "--certificate", str(certificate)])
    return backbone, certificate

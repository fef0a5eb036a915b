from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from workflow_scripts.checkpoints import convert
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.certificate import load_checked
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.datasets.pixels import network_input
from workflow_scripts.files import read_json, sha256_of, write_json
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import features
from workflow_scripts.ssl_transfer.features import Forward, extract, folded, pixels_to_input

SIZE_PX, N_IMAGES = 64, 11
RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (N_IMAGES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
IDS = [f"image-{number:02d}" for number in range(N_IMAGES)]


def make_backbone(folder: Path, normalisation: str = "imagenet") -> tuple[Path, Path]:
    """Write a ResNet-18 with seeded weights and its certificate."""
    backbone, certificate = folder / "backbone.safetensors", folder / "certificate.json"
    options = {"format": "torchvision", "architecture": "resnet18", "size_px": SIZE_PX}
    options |= {"weights": "seeded", "seed": 1, "normalisation": normalisation}
    arguments = ["--checkpoint", "test-r18", "--options", json.dumps(options)]
    convert.main([*arguments, "--backbone", str(backbone), "--certificate", str(certificate)])
    return backbone, certificate


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def network(backbone: tuple[Path, Path]) -> nn.Module:
    return load_checked(*backbone)[0]


def write_store(folder: Path, images: NDArray[np.uint8]) -> tuple[Path, Path]:
    store, index = folder / "store.npy", folder / "store.parquet"
    np.save(store, images)
    ids = IDS[: len(images)]
    pq.write_table(pa.table({"image_id": ids, "sha256": ["0" * 64] * len(ids)}), index)
    return store, index


def run_features(
    folder: Path, backbone: tuple[Path, Path], images: NDArray[np.uint8] = IMAGES, *more: str
) -> tuple[NDArray[np.float32], list[str], dict[str, Any]]:
    store, index = write_store(folder, images)
    out = folder / "features.npz"
    arguments = ["--backbone", str(backbone[0]), "--certificate", str(backbone[1])]
    arguments += ["--store", str(store), "--index", str(index), "--out", str(out)]
    if "--normalisation" not in more:
        arguments += ["--normalisation", "own"]
    features.main([*arguments, *more])
    with np.load(out, allow_pickle=False) as content:
        origin = json.loads(str(content["provenance"]))
        return content["features"], content["image_id"].tolist(), origin


def reference(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features by torchvision's own transforms, one image at a time."""
    from torchvision.transforms import v2

    to_input = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    with torch.inference_mode():
        rows = [network(to_input(image).unsqueeze(0)) for image in images]
    return torch.cat(rows).numpy()


def relative_gap(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("batch_size", [4, 32])
def test_features_equal_one_image_at_a_time_through_torchvision(
    batch_size: int, backbone: tuple[Path, Path], network: nn.Module, tmp_path: Path
) -> None:
    more = ("--batch-size", str(batch_size))
    found, image_id, _ = run_features(tmp_path, backbone, IMAGES, *more)
    assert (found.shape, found.dtype) == ((N_IMAGES, 512), np.float32)
    assert image_id == IDS
    assert relative_gap(found, reference(network, IMAGES)) < 1e-5


def test_the_feature_of_an_image_does_not_depend_on_its_batch(network: nn.Module) -> None:
    to_input = pixels_to_input({"normalisation": "none"}, "own")
    together = extract(network, IMAGES, to_input, Forward(batch_size=N_IMAGES))
    shuffled = np.array([7, 3, 0, 10, 7])
    apart = extract(network, IMAGES[shuffled], to_input, Forward(batch_size=2))
    assert relative_gap(apart, together[shuffled]) < 1e-5


def test_in_training_mode_the_batch_would_matter(network: nn.Module) -> None:
    twin = build_backbone("torchvision", "resnet18")
    twin.load_state_dict(network.state_dict())
    batch = torch.from_numpy(network_input(IMAGES[:4], "none"))
    with torch.no_grad():
        four, two = twin.train()(batch), twin(batch[:2])
    assert relative_gap(two.numpy(), four[:2].numpy()) > 1e-2


@pytest.mark.parametrize(
    ("architecture", "n_left"), [("resnet18", 0), ("densenet121", 62), ("mobilenet_v2", 0)]
)
def test_folding_batch_norm_keeps_the_features(architecture: str, n_left: int) -> None:
    network = build_backbone("torchvision", architecture)
    tensors = phantom_tensors("torchvision", architecture, seed=2)
    names = network.state_dict()
    network.load_state_dict({name: tensors[name] for name in names})
    network.double()  # the algebra is exact: only rounding may differ, whatever the machine
    fast = folded(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == n_left
    image = torch.from_numpy(network_input(IMAGES[:2], "none")).double()
    with torch.inference_mode():
        assert relative_gap(fast(image).numpy(), network(image).numpy()) < 1e-12


def test_a_network_without_batch_norm_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    assert folded(network) is network


class Branching(nn.Module):
    """Decides by a pixel value: torch cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sign = -1 if images.sum() > 0 else 1
        return sign * self.norm(self.conv(images)).mean((2, 3))


def test_a_network_that_cannot_be_traced_still_gives_its_features() -> None:
    network = Branching().eval()
    found = extract(network, IMAGES, pixels_to_input({"normalisation": "none"}, "own"), Forward())
    with torch.inference_mode():
        expected = network(torch.from_numpy(network_input(IMAGES, "none"))).numpy()
    assert relative_gap(found, expected) < 1e-5


def test_each_image_is_forwarded_once_and_in_order() -> None:
    class Probe(nn.Module):
        seen = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            Probe.seen += len(images)
            return images[:, :, 0, 0]

    found = extract(
        Probe(), IMAGES, pixels_to_input({"normalisation": "none"}, "own"), Forward(batch_size=3)
    )
    assert Probe.seen == N_IMAGES
    np.testing.assert_allclose(found, IMAGES[:, 0, 0] / np.float32(255), rtol=1e-6)


@pytest.mark.parametrize(
    ("certified", "asked", "applied"),
    [
        ("mean_std", "own", "mean_std"),
        ("mean_std", "none", "none"),
        ("none", "own", "none"),
        ("histogram", "own", "histogram"),
        ("histogram", "none", "histogram"),  # the released code's flag never reached it (spec 2.6)
    ],
)
def test_the_normalisation_is_the_certificate_s_unless_none_is_asked(
    certified: str,
    asked: Any,
    applied: Any,
) -> None:
    card = {"normalisation": certified, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    found = pixels_to_input(card, asked)(IMAGES[:2])
    expected = network_input(IMAGES[:2], applied, card["mean"], card["std"])
    np.testing.assert_array_equal(found, expected)


def test_bfloat16_is_close_and_recorded(
    backbone: tuple[Path, Path], network: nn.Module, tmp_path: Path
) -> None:
    found, _, origin = run_features(tmp_path, backbone, IMAGES, "--precision", "bf16")
    assert found.dtype == np.float32
    assert 1e-5 < relative_gap(found, reference(network, IMAGES)) < 0.1
    assert origin["precision"] == "bf16"


def test_two_runs_write_identical_files(backbone: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run_features(tmp_path / name, backbone)
    digests = {sha256_of(tmp_path / name / "features.npz") for name in ("a", "b")}
    assert len(digests) == 1


def test_the_provenance_says_what_the_features_come_from(
    backbone: tuple[Path, Path], tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    write_json(card, {"dataset": "bach", "phantom": True})
    _, _, origin = run_features(
        tmp_path, backbone, IMAGES, "--card", str(card), "--geometry", "short224"
    )
    expected = {
        "checkpoint": "test-r18",
        "architecture": "resnet18",
        "dataset": "bach",
        "geometry": "short224",
        "normalisation": "own",
        "phantom": True,
        "phantom_checkpoint": False,
        "phantom_data": True,
        "backbone_sha256": sha256_of(backbone[0]),
        "certificate_sha256": sha256_of(backbone[1]),
        "index_sha256": sha256_of(tmp_path / "store.parquet"),
        "device": "cpu",
    }
    assert {name: origin[name] for name in expected} == expected


def test_images_of_another_size_are_refused(backbone: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images of 64 x 64 px.*11 images of 32 x 32 px"):
        run_features(tmp_path, backbone, IMAGES[:, :32, :32])


def test_an_empty_store_is_refused(backbone: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 images"):
        run_features(tmp_path, backbone, IMAGES[:0])


def test_features_that_are_not_finite_are_refused_with_their_image(
    backbone: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.zeros((N_IMAGES, 512), dtype=np.float32)
    broken[[2, 9], 3] = np.inf, np.nan
    monkeypatch.setattr(features, "extract", lambda *_: broken)
    with pytest.raises(InputError) as caught:
        run_features(tmp_path, backbone)
    assert "image 'image-02' (row 2)" in str(caught.value)
    assert "image 'image-09' (row 9)" in str(caught.value)
    assert not (tmp_path / "features.npz").exists()


def test_a_backbone_that_does_not_fit_its_certificate_is_refused(
    backbone: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate = tmp_path / "certificate.json"
    write_json(certificate, read_json(backbone[1]) | {"backbone_sha256": "0" * 64})
    with pytest.raises(InputError, match="as its certificate says"):
        run_features(tmp_path, (backbone[0], certificate))


def test_a_gpu_that_is_absent_is_said_and_the_cpu_recorded(
    backbone: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, _, origin = run_features(tmp_path, backbone, IMAGES[:2], "--gpus", "1")
    assert origin["device"] == "cpu"
    assert "no GPU is visible" in caplog.text


def test_a_batch_of_no_images_is_refused(backbone: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        run_features(tmp_path, backbone, IMAGES, "--batch-size", "0")

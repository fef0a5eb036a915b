from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cooperative_training.archive import mask_of, open_store
from workflow_scripts.cooperative_training import validation
from workflow_scripts.cooperative_training.augmentation import NO_AUGMENTATION, rescale
from workflow_scripts.cooperative_training.networks import CooperativeNetworks
from workflow_scripts.cooperative_training.slices import Sizes, Slices, centre_window, to_window
from workflow_scripts.cooperative_training.validation import Validation
from workflow_scripts.metrics.segmentation import confusion_matrix, mean_iou
from workflow_scripts.training.devices import DeviceRequest, set_up


def test_the_score_is_that_of_one_table_over_all_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, {"001_ED": mask_of(0, empty=1), "001_ES": mask_of(1)})
    sizes = Sizes(window=32, crop=16)
    slices = Slices(
        store, ["001"], sizes, policy=NO_AUGMENTATION, seed=0, empty="keep", where="store"
    )
    torch.manual_seed(0)
    networks = CooperativeNetworks(width=2)
    found = {}
    for size in (20, 4):  # as in the paper, and in two passes
        monkeypatch.setattr(validation, "BATCH", size)
        judge = Validation(slices, set_up(DeviceRequest()), stn_passes=1)
        found[size] = judge.mean_iou(networks)
    assert networks.training  # as it was
    networks.eval()
    table = np.zeros((4, 4), np.int64)
    for row in slices.rows:
        image, labels = (torch.from_numpy(to_window(one, 32))[None] for one in store.slice(row))
        with torch.inference_mode():
            logits = networks.predict(rescale(centre_window(image, 16))[None], 1)
        truth = centre_window(labels, 16)[0].numpy()
        table += confusion_matrix(truth, logits.argmax(1)[0].numpy(), 4)
    assert found[20] == pytest.approx(mean_iou(table), abs=1e-12)
    assert found[4] == pytest.approx(mean_iou(table), abs=1e-12)

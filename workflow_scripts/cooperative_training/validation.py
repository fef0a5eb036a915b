"""Judging networks on validation slices: mean IoU of the corrected segmentation."""

from __future__ import annotations

import numpy as np
import torch

from workflow_scripts.cooperative_training.augmentation import rescale
from workflow_scripts.cooperative_training.networks import N_CLASSES, CooperativeNetworks
from workflow_scripts.cooperative_training.slices import Slices, centre_window
from workflow_scripts.metrics.segmentation import confusion_matrix, mean_iou
from workflow_scripts.training.devices import Devices
from workflow_scripts.training.evaluation import evaluation_batches, gather_cases, share_buffers
from workflow_scripts.training.sampler import Draw

BATCH = 20  # slices (spec section 4)


class Validation:
    """One confusion matrix over all validation slices, on any number of ranks.

    Args:
        slices: without augmentation: window, centre, min-max.
        devices: of the training.
        stn_passes: corrections by the slow network.
    """

    def __init__(self, slices: Slices, devices: Devices, stn_passes: int) -> None:
        self.slices, self.devices, self.stn_passes = slices, devices, stn_passes

    def mean_iou(self, networks: CooperativeNetworks) -> float:
        """Return the mean IoU over the four classes, undefined ones left out, on every rank."""
        fabric, ranks, _ = self.devices
        share_buffers(ranks, networks)
        networks.eval()
        mine: list[int] = []
        tables = [np.empty((0, N_CLASSES, N_CLASSES), np.int64)]
        with torch.inference_mode(), fabric.autocast():
            for batch in evaluation_batches(len(self.slices), BATCH, ranks):
                images, labels = self._load(batch)
                logits = networks.predict(fabric.to_device(images), self.stn_passes)
                found = logits.argmax(dim=1).cpu().numpy()
                pairs = zip(labels.numpy(), found, strict=True)
                tables.append(
                    np.stack([confusion_matrix(truth, one, N_CLASSES) for truth, one in pairs])
                )
                mine += batch
        networks.train()
        names = [str(number) for number in range(len(self.slices))]
        column = {"confusion": np.concatenate(tables)}
        cases = gather_cases(ranks, [names[number] for number in mine], column, names)
        return mean_iou(cases["confusion"].sum(axis=0))

    def _load(self, cases: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (N, 1, C, C) and labels (N, C, C); replaced slices are always the same."""
        items = [self.slices[Draw(case, 0)] for case in cases]
        crop = self.slices.sizes.crop
        windows = torch.from_numpy(np.stack([item.window for item in items]))
        labels = torch.from_numpy(np.stack([item.window_labels for item in items]))
        images = rescale(centre_window(windows, crop))
        return images[:, None], centre_window(labels, crop)

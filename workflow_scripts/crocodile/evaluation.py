"""What a network says of every image of a split, each image once, on any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.crocodile.cases import Cases, network_input
from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.metrics.ranking import one_vs_one_roc_auc
from workflow_scripts.training.evaluation import evaluation_batches, gather_cases, share_buffers
from workflow_scripts.training.streams import torch_generator

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.crocodile.model import Objective
    from workflow_scripts.crocodile.plain import PlainObjective
    from workflow_scripts.training.devices import Devices

NO_FINDING = "No Finding"  # left out of the mean AUC (spec section 9)
DOMAIN = "domain"  # name of the domain branch's logits beside the heads'


def evaluate(
    objective: Objective | PlainObjective,
    cases: Cases,
    devices: Devices,
    batch_size: int,
    shuffle_seed: int | None,
    with_loss: bool = False,
) -> dict[str, NDArray[Any]]:
    """Return the heads' logits of every case, on every rank.

    Args:
        objective: the bare module, not the wrapper of Fabric.
        cases: of the split.
        devices: of the training.
        batch_size: images of a forward pass.
        shuffle_seed: of the released intervention, which shuffles in evaluation too; None: the
            image's own spurious embeddings.
        with_loss: run the domain branch as well: `domain` logits and `loss` of each case's batch.

    Returns:
        Head to logits, (N, K); `causality`, (N, K, K), where the network has one.
    """
    import torch

    share_buffers(devices.ranks, objective)
    objective.eval()
    mine: list[int] = []
    found: dict[str, list[NDArray[Any]]] = {}
    with torch.inference_mode(), devices.fabric.autocast():
        for batch in evaluation_batches(len(cases), batch_size, devices.ranks):
            images = np.stack([cases.image(case) for case in batch])
            inputs = network_input(devices.fabric.to_device(torch.from_numpy(images)))
            order = None
            if shuffle_seed is not None:
                own = torch_generator(shuffle_seed, "evaluation", str(batch[0]))
                order = torch.randperm(len(batch), generator=own).to(inputs.device)
            read = (
                _with_loss(objective, inputs, cases, batch, order, devices)
                if with_loss
                else objective.model.read(inputs, order)
            )
            for name, values in read.items():
                found.setdefault(name, []).append(values.float().cpu().numpy())
            mine += batch
    objective.train()
    return _gathered(devices, cases, mine, found)


def _gathered(
    devices: Devices, cases: Cases, mine: list[int], found: Mapping[str, list[NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Bring the ranks' cases together, in the order of `cases`."""
    ids = cases.table["case_id"].tolist()
    columns = {name: np.concatenate(parts) for name, parts in found.items()}
    return gather_cases(devices.ranks, [ids[row] for row in mine], columns, ids)


def _with_loss(
    objective: Objective | PlainObjective, inputs: Tensor, cases: Cases, batch: list[int],
    order: Tensor | None, devices: Devices,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the heads' logits, the domain's, and the batch's loss once a case."""
    import torch

    to = devices.fabric.to_device
    labels = to(torch.from_numpy(cases.labels[batch]))
    domains = to(torch.from_numpy(cases.domains[batch]))
    logits, loss = objective.judge(inputs, labels, domains, order)
    return logits | {"loss": loss.expand(len(batch))}


def mean_auc(labels: NDArray[Any], logits: NDArray[Any], findings: tuple[str, ...]) -> float:
    """Return the mean ROC AUC over the findings without No Finding, for selection.

    A finding that validation cannot judge (all present or all absent) is left out here; in a
    table the mean would be undefined. NaN without any.
    """
    areas = [
        binary_roc_auc(labels[:, k], logits[:, k]).value
        for k, finding in enumerate(findings)
        if finding != NO_FINDING
    ]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def validation_metrics(
    found: Mapping[str, NDArray[Any]], cases: Cases, findings: tuple[str, ...]
) -> dict[str, float]:
    """Return what one validation found: mean AUC of each head, loss, and the domain's AUC."""
    heads = [name for name in found if name not in ("causality", "loss", DOMAIN)]
    metrics = {
        f"val_mean_auc_{head}": mean_auc(cases.labels, found[head], findings) for head in heads
    }
    metrics["val_loss"] = float(found["loss"].mean())
    if DOMAIN in found:
        metrics["val_domain_auc"] = one_vs_one_roc_auc(cases.domains, found[DOMAIN]).value
    return metrics

"""The sanity baseline: trunk, average pool, one linear layer, asymmetric loss (ours)."""

from __future__ import annotations

from torch import Tensor, nn

from workflow_scripts.crocodile.losses import asymmetric_loss


class PlainClassifier(nn.Module):
    """What anybody would train first.

    Args:
        trunk: image to feature map; has `channels`.
        n_findings: K.
    """

    def __init__(self, trunk: nn.Module, n_findings: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(int(trunk.channels), n_findings)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, 1, S, S) -> (B, K)."""
        logits: Tensor = self.head(self.trunk(images).mean(dim=(2, 3)))
        return logits

    def read(self, images: Tensor, order: object = None) -> dict[str, Tensor]:
        """Return the logits of its only head; there is nothing to intervene on."""
        return {"plain": self(images)}


class PlainObjective(nn.Module):
    """The classifier with its loss.

    Args:
        model: the classifier.
        asl_scale: factor of the asymmetric loss.
    """

    def __init__(self, model: PlainClassifier, asl_scale: float) -> None:
        super().__init__()
        self.model, self.asl_scale = model, asl_scale

    def forward(
        self, images: Tensor, labels: Tensor, domains: Tensor, orders: object
    ) -> dict[str, Tensor]:
        """Return the loss by name; arguments as `model.Objective.forward`."""
        return {"asl_causal": self.judge(images, labels, domains, orders)[1]}

    def judge(
        self, images: Tensor, labels: Tensor, domains: Tensor, order: object
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits of the only head, and the batch's loss."""
        logits = self.model(images).float()
        return {"plain": logits}, asymmetric_loss(logits, labels, scale=self.asl_scale)

"""What a noise edit minimises: the attribute classifier must be wrong, and the edit small.

    L = -lambda_1 * CE(g(phi(x + eps)), a) + lambda_reg * ||eps||_2            (spec section 6)

The norm is not squared and runs over all pixels of the edit. At zero its gradient is taken as
zero; elsewhere it is a unit vector, so the term pulls with the constant force lambda_reg.
The cross-entropy is unbounded: the minimum is a classifier that is surely *wrong*, not one that
guesses. What that means for fairness: docs/explanation/debiased_noise.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Weights(NamedTuple):
    """Weights of the two terms."""

    lambda_1: float = 1.0  # released code
    lambda_reg: float = 0.001  # README command; the parser's default is 0.01


class Head(NamedTuple):
    """A linear classifier on embeddings: logits = embeddings @ weight.T + bias."""

    weight: Tensor  # (C, F)
    bias: Tensor  # (C,)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of embeddings, shape (N, F) -> (N, C)."""
        from torch.nn.functional import linear

        return linear(embeddings, self.weight, self.bias)


def edit_loss(logits: Tensor, attribute: Tensor, noise: Tensor, weights: Weights) -> Tensor:
    """Return the loss of one batch, a scalar.

    Args:
        logits: of the attribute classifier on edited images, shape (N, 2).
        attribute: 1 where the patient has it (male), else 0, shape (N,).
        noise: the edit, shape (H, W).
        weights: of the two terms.

    Source: debiased noise spec section 6 (golden `B_white_box`).
    """
    from torch.linalg import vector_norm
    from torch.nn.functional import cross_entropy

    size: Tensor = vector_norm(noise)
    return -weights.lambda_1 * cross_entropy(logits, attribute) + weights.lambda_reg * size

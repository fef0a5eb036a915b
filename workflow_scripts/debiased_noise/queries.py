"""What a black box costs: images sent, a budget that is never exceeded, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class BlackBox(Protocol):
    """All that GeZO knows of a foundation model: images in, embeddings out."""

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of images, shape (N, 3, H, W) -> (N, F), without gradient."""
        ...


class BudgetExhausted(Exception):
    """The next images would exceed the query budget; none of them was sent."""


class ServiceUnavailable(Exception):
    """The embedding service does not answer, after every retry; nothing is wrong with the input."""


class QueryCount:
    """Counts the images sent, retries included, since a service may bill those too.

    Args:
        budget: images that may be sent in all; None: any number.

    Attributes:
        images: sent so far.
        requests: in which they were sent.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget, self.images, self.requests = budget, 0, 0

    def spend(self, n_images: int) -> None:
        """Count images that are about to be sent.

        Raises:
            BudgetExhausted: if the budget does not allow them; they are not counted.
        """
        if self.budget is not None and self.images + n_images > self.budget:
            raise BudgetExhausted(
                f"query budget of {self.budget} images: {self.images} are spent and the next "
                f"request needs {n_images}"
            )
        self.images += n_images
        self.requests += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what was spent."""
        return {"images": self.images, "requests": self.requests}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was spent before."""
        self.images, self.requests = state["images"], state["requests"]


class CountedBox:
    """A black box in this process whose images are counted like those of a service.

    Args:
        box: the foundation model.
        queries: the count.
    """

    def __init__(self, box: BlackBox, queries: QueryCount) -> None:
        self._box, self._queries = box, queries

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of images, shape (N, 3, H, W) -> (N, F)."""
        self._queries.spend(len(images))
        return self._box.embed(images)

"""Features that are not finite are refused where they arise: NaN would drop out of a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse


def require_finite(values: NDArray[np.floating], what: str) -> None:
    """Raise where features, or what is computed of them, are not finite.

    Args:
        values: any shape.
        what: what they are and of what, for the message.

    Raises:
        InputError: with how many are not.
    """
    n_bad = int((~np.isfinite(values)).sum())
    if n_bad:
        found = f"{n_bad} of {values.size} not finite"
        step = "check the weights, their certificate and the images; take --precision fp32"
        raise refuse(what, "finite numbers", found, step)

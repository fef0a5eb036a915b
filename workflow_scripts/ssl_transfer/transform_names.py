"""The transforms of the invariance measure by name, and how many versions an image has.

Imported each time Snakemake plans: nothing numerical here.
"""

from __future__ import annotations

ON_OFF = ("h_flip", "v_flip", "grayscale", "invert", "equalize")  # the image, and once transformed
N_POSTERIZED = 7  # 1 to 7 bits a channel
DEFAULT_K = 256  # versions where the transform has no number of its own (released code)
OWN_K = dict.fromkeys(ON_OFF, 2) | {"posterize": N_POSTERIZED}
MULTI_VIEW = "multi_view"  # two images of a patient, no transform


def default_k(transform: str) -> int:
    """Return how many versions an image has where the configuration does not say.

    >>> default_k("h_flip"), default_k("rotation")
    (2, 256)
    """
    return OWN_K.get(transform, DEFAULT_K)

"""The protocols of SSL transfer: what the released code did, and what is sound.

Every difference is an option here; `docs/reference/protocols.md` is made from this list.
Light on purpose: the rules import it to know which files a protocol needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Protocol = Literal["released", "corrected"]


@dataclass(frozen=True, slots=True)
class FewShotOptions:
    """How episodes are drawn and seen."""

    geometry: str  # "by_dataset": the released code squashes some data sets (spec section 5)
    normalisation: str  # "own": as the checkpoint's certificate says
    split_column: str  # the pool is train + test, in this column's order
    max_pool: int | None  # the released cap really keeps 10,001 images (spec section 0.10)
    architecture_stream: bool  # episodes depend on the random init of the architecture (spec 5)
    patient_disjoint: bool  # support and query of an episode share no patient


@dataclass(frozen=True, slots=True)
class LinearOptions:
    """How the linear probe is searched and fitted."""

    geometry: str
    normalisation: str  # "none": the run script gave --no-norm to all models (spec 2.6)
    split_column: str
    validation_by_patient: bool  # released: 20 % of the training images, seed 0 (spec 6)
    c_order: Literal["descending", "ascending"]  # warm starts run along this order
    max_iterations: int  # released: 100, often not converged (performance fact 3)
    refit: Literal["warm", "cold"]  # released: warm from the last search solution


FEW_SHOT: dict[Protocol, FewShotOptions] = {
    "released": FewShotOptions(
        geometry="by_dataset",
        normalisation="own",
        split_column="split_released",
        max_pool=10_001,
        architecture_stream=True,
        patient_disjoint=False,
    ),
    "corrected": FewShotOptions(
        geometry="short224",
        normalisation="own",
        split_column="split",
        max_pool=None,
        architecture_stream=False,
        patient_disjoint=True,
    ),
}

LINEAR: dict[Protocol, LinearOptions] = {
    "released": LinearOptions(
        geometry="short224",
        normalisation="none",
        split_column="split_released",
        validation_by_patient=False,
        c_order="descending",
        max_iterations=100,
        refit="warm",
    ),
    "corrected": LinearOptions(
        geometry="short224",
        normalisation="own",
        split_column="split",
        validation_by_patient=True,
        c_order="ascending",
        max_iterations=1000,
        refit="cold",
    ),
}

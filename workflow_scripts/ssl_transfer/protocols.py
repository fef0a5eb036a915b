"""The protocols of SSL transfer: what the released code did, and what is sound.

Every difference is an option here, with its reason; `docs/reference/protocols.md` is made from
this list by `python -m workflow_scripts.report.protocols_page`.
Light on purpose: the rules import it to know which files a protocol needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_scripts.protocol_option import option

Protocol = Literal["released", "corrected"]


@dataclass(frozen=True, slots=True)
class FewShotOptions:
    """How episodes are drawn and seen."""

    geometry: str = option(
        "`by_dataset` (the card's `geometry_released`): the released code squashes the images of "
        "some data sets and crops those of others; one geometry that keeps the aspect ratio is "
        "comparable and undistorted",
        "released code",
    )
    normalisation: str = option(
        "`own`: as the checkpoint's certificate says it was pretrained", "released code"
    )
    split_column: str = option(
        "whose leak certificate is needed; a frozen backbone may see the whole pool",
        "released code",
    )
    pool_parts: tuple[str, ...] = option(
        "parts of the split that make up the pool, in this order; a sound split has a validation "
        "part, which episodes may use as well",
        "released code",
    )
    max_pool: int | None = option(
        "the released code meant to keep 10,000 images of the data sets it crops (`short224`) and "
        "keeps one more; the others, and all in `corrected`, are used in full",
        "released code",
    )
    architecture_stream: bool = option(
        "the released episodes continue torch's random stream after the random initialisation of "
        "the architecture, so that checkpoints of different architectures see different episodes, "
        "and one permutation splits all classes of an episode; `corrected` draws every class by "
        "itself, from the seed and the name of the data set alone",
        "released code",
    )
    patient_disjoint: bool = option(
        "support and query of an episode share no patient: an image is no test of a prototype "
        "that holds the same patient",
        "ours; the released code knows no patients",
    )


@dataclass(frozen=True, slots=True)
class LinearOptions:
    """How the linear probe is searched and fitted."""

    geometry: str = option("shorter side 224, centre crop", "released code")
    normalisation: str = option(
        "the run script gave `--no-norm` to all models, so that most checkpoints saw another "
        "range of pixels than in pretraining",
        "released run script",
    )
    split_column: str = option(
        "the released split parts the images of a patient in some data sets",
        "released code",
    )
    validation_by_patient: bool = option(
        "released: a fifth of the training images, shuffled with seed 0; a patient may be in both "
        "parts. corrected: whole patients until a fifth of the images outside the test part",
        "released code",
    )
    c_order: Literal["descending", "ascending"] = option(
        "fits start from the one before, and the first best wins: descending starts with the "
        "hardest fit and a tie keeps the weakest regularisation, ascending the reverse",
        "released code",
    )
    max_iterations: int = option(
        "limit of L-BFGS; fits that hit 100 depend on row order and number of threads",
        "released code (scikit-learn's default); measured",
    )
    tolerance: float = option(
        "largest component of the gradient of the mean objective at which a fit has converged; at "
        "1e-4 many fits stop where they started, with the solution of another C, and at 1e-6 "
        "probabilities are still off by up to 0.2 where C is 1e4 (0.002 at 1e-8)",
        "released code (scikit-learn's default); measured",
    )
    precision: Literal["float32", "float64"] = option(
        "in float32 the line search ends before the tolerance is met", "released code; measured"
    )
    coordinates: Literal["features", "centred"] = option(
        "centring and scaling the features, and with fewer images than feature dimensions a "
        "rotation into their span, leave the optimum where it is and reach it many times faster; "
        "a fit that stops early would stop elsewhere",
        "ours; exact for converged fits",
    )
    refit: Literal["warm", "cold"] = option(
        "the last fit, on training and validation images: from the last solution of the search "
        "(a C of 1e-5) or from zero",
        "released code",
    )
    undefined_recall_is_nan: bool = option(
        "the released mean per-class accuracy averages over classes in truth or prediction, so "
        "that a class only predicted makes it NaN; corrected averages over classes in truth",
        "released code",
    )


FEW_SHOT: dict[Protocol, FewShotOptions] = {
    "released": FewShotOptions(
        geometry="by_dataset",
        normalisation="own",
        split_column="split_released",
        pool_parts=("train", "test"),
        max_pool=10_001,
        architecture_stream=True,
        patient_disjoint=False,
    ),
    "corrected": FewShotOptions(
        geometry="short224",
        normalisation="own",
        split_column="split",
        pool_parts=("train", "val", "test"),
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
        tolerance=1e-4,
        precision="float32",
        coordinates="features",
        refit="warm",
        undefined_recall_is_nan=True,
    ),
    "corrected": LinearOptions(
        geometry="short224",
        normalisation="own",
        split_column="split",
        validation_by_patient=True,
        c_order="ascending",
        max_iterations=2_000,
        tolerance=1e-8,
        precision="float64",
        coordinates="centred",
        refit="cold",
        undefined_recall_is_nan=False,
    ),
}

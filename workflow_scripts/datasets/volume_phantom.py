"""Phantom archives of segmentation data sets: who is in them, and how each row is drawn.

The step `phantom` writes them. `--phantom` holds `patients`, `image_size` (rows of an image; a
volume's slices are square) and any of the knobs in `phantoms/knobs.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.acdc_lists import released_list
from workflow_scripts.datasets.layout import Options, RenderVolume
from workflow_scripts.datasets.segmentation import FRAMES, Volume
from workflow_scripts.phantoms.knobs import Knobs, of_patient
from workflow_scripts.problems import InputError, Problem, nearest, refuse
from workflow_scripts.randomness import named_rng

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_SIZE = {"bcdr": 384}
CARDIAC_SIZE = 160  # rows; 1.7 mm each
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # 20 numbers each in ACDC
MMS_VENDORS = (("Siemens", "1"), ("Philips", "2"), ("GE", "4"), ("Canon", "5"))  # and a centre
MMS_SHARES = {"Training/Labeled": 0.5, "Validation": 0.15, "Testing": 0.35}
BCDR_VIEWS = ("CC", "MLO")


def plan_archive(
    layout: str, options: Options, text: str, seed: int, dataset: str
) -> tuple[pd.DataFrame, RenderVolume, Knobs, int]:
    """Return the truth of every row, its renderer, the knobs, and the image size.

    Raises:
        InputError: an unknown key of `--phantom` or a value out of range.
    """
    default = DEFAULT_SIZE.get(layout, CARDIAC_SIZE)
    n_patients, size, knobs = parse_phantom(text, default)
    if layout not in TRUTHS:
        names = ", ".join(TRUTHS)
        raise refuse("option layout", f"a layout with a phantom: {names}", layout, "choose one")
    rng = named_rng(seed, "phantom", dataset, "truth")
    truth = TRUTHS[layout](rng, n_patients, options)
    render: RenderVolume
    if layout == "bcdr":
        outlined = functools.partial(
            draw_lesion, knobs=knobs, size=size, seed=seed, dataset=dataset
        )
        # the outline belongs to the index, so it is drawn first
        truth["contour"] = [outlined(row)[1] for row in truth.to_dict("records")]
        render = functools.partial(draw_one_slice, draw=outlined)
    else:
        render = functools.partial(draw_heart, knobs=knobs, size=size, seed=seed, dataset=dataset)
    return truth, render, knobs, size


def parse_phantom(text: str, default_size: int) -> tuple[int, int, Knobs]:
    """Return patients, image size and knobs from the JSON object of `--phantom`.

    Raises:
        InputError: every unknown key and every value out of range.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise refuse("--phantom", "a JSON object", f"{text[:80]!r} ({error})", "quote it") from None
    if not isinstance(given, dict):
        raise refuse("--phantom", "a JSON object", text[:80], "write {...}")
    names = [field.name for field in fields(Knobs)]
    known = ["patients", "image_size", *names]
    problems = [
        Problem(f"phantom.{key}", "a known key", repr(key), nearest(key, known))
        for key in given
        if key not in known
    ]
    lowest = {"patients": (3, 10), "image_size": (64, default_size)}
    for key, (low, default) in lowest.items():
        value = given.get(key, default)
        if type(value) is not int or value < low:
            expected = f"an integer from {low} on"
            problems.append(Problem(f"phantom.{key}", expected, repr(value), "correct it"))
    try:
        knobs = Knobs(**{name: given[name] for name in names if name in given})
    except ValueError as error:
        problems.append(Problem("phantom", "knobs in their range", str(error), "correct it"))
    if problems:
        raise InputError(problems)
    return given.get("patients", 10), given.get("image_size", default_size), knobs


def acdc_numbers(n: int) -> list[str]:
    """Return `n` patient numbers in which the released lists leave something for each split.

    Those who train in `10_cv_0`, who validate there, and who test take turns.

    >>> acdc_numbers(4)
    ['001', '007', '011', '073']
    """
    lists = released_list("10_cv_0")
    standard = released_list("standard_cv_0")
    turns = [lists["train"], lists["test"], (*standard["val"], *lists["val"]), standard["train"]]
    chosen: dict[str, None] = {}
    for step in range(100):
        for group in turns:
            if step < len(group):
                chosen[group[step]] = None
    return sorted(list(chosen)[:n])


def acdc_truth(rng: np.random.Generator, n: int, options: Options) -> pd.DataFrame:
    """Return raw ACDC patients, ED and ES; the disease group goes with the number."""
    import pandas as pd

    rows = []
    for number in acdc_numbers(n):
        es = int(rng.integers(8, 13))
        for frame, at in zip(FRAMES, (1, es), strict=True):
            place = f"patient{number}/patient{number}_frame{at:02d}"
            rows.append(
                {
                    "image_id": f"{number}_{frame}",
                    "path": f"{place}.nii.gz",
                    "mask_path": f"{place}_gt.nii.gz",
                    "patient_id": number,
                    "frame": frame,
                    "group": GROUPS[(int(number) - 1) // 20],
                    "vendor": "Siemens",
                }
            )
    return pd.DataFrame(rows)


def frames_truth(rng: np.random.Generator, n: int, options: Options) -> pd.DataFrame:
    """Return patients in the released code's folders."""
    is_mms = options.get("content") == "mms"
    truth = mms_truth(rng, n, options) if is_mms else acdc_truth(rng, n, options)
    place = truth["patient_id"] + "/" + truth["frame"]
    return truth.assign(path=place + "_img.nii.gz", mask_path=place + "_seg.nii.gz")


def mms_truth(rng: np.random.Generator, n: int, options: Options) -> pd.DataFrame:
    """Return M&Ms patients of four vendors over the three parts of the archive."""
    import pandas as pd

    parts = np.repeat(list(MMS_SHARES), _shares(n, list(MMS_SHARES.values())))
    rows = []
    codes = rng.permutation(26**2)[:n]
    for index, (part, code) in enumerate(zip(parts.tolist(), codes.tolist(), strict=True)):
        name = f"{chr(65 + code // 26)}{index % 10}{chr(65 + code % 26)}{index // 10:03d}"
        vendor, center = MMS_VENDORS[index % len(MMS_VENDORS)]
        group = str(rng.choice(GROUPS))
        es = int(rng.integers(2, 5))
        for frame, at in zip(FRAMES, (0, es), strict=True):
            rows.append(
                {
                    "image_id": f"{name}_{frame}",
                    "path": f"{part}/{name}/{name}_sa.nii.gz",
                    "mask_path": f"{part}/{name}/{name}_sa_gt.nii.gz",
                    "patient_id": name,
                    "frame": frame,
                    "frame_index": at,
                    "group": group,
                    "vendor": vendor,
                    "center": center,
                    "sex": str(rng.choice(["F", "M"])) if frame == "ED" else None,
                    "age_years": float(rng.integers(20, 85)) if frame == "ED" else float("nan"),
                }
            )
    return pd.DataFrame(rows)


def bcdr_truth(rng: np.random.Generator, n: int, options: Options) -> pd.DataFrame:
    """Return BCDR patients over the subsets, a lesion in one or two views."""
    import pandas as pd

    from workflow_scripts.datasets.bcdr import SUBSETS

    subsets = list(options.get("subsets") or SUBSETS)
    if n < len(subsets):
        expected, advice = f"{len(subsets)} or more, one a subset", "or name fewer subsets"
        raise refuse("phantom.patients", expected, str(n), advice)
    rows = []
    for patient in range(1, n + 1):
        subset = subsets[(patient - 1) % len(subsets)]
        folder = SUBSETS[subset].rpartition("/")[0]
        study, side = int(rng.integers(1, 900)), str(rng.choice(["left", "right"]))
        group, age = str(rng.choice(["Benign", "Malign"])), float(rng.integers(35, 80))
        for view in BCDR_VIEWS[: 1 + int(rng.random() < 0.7)]:
            short = f"{side[0].upper()}{'O' if view == 'MLO' else view}"
            file = f"img_{patient}_{study}_1_{short}.tif"
            name = f"pid_{patient}-{side.upper()}_{view}-sid_{study}-lid_1"
            rows.append(
                {
                    "image_id": f"{subset}-{name}",
                    "path": f"{folder}/patient_{patient}/study_{study}/{file}",
                    "patient_id": str(patient),
                    "study_id": f"{patient}_{study}",
                    "view": f"{side} {view}",
                    "domain": f"bcdr_{subset}",
                    "group": group,
                    "age_years": age,
                }
            )
    return pd.DataFrame(rows)


Truth = Callable[[np.random.Generator, int, Options], "pd.DataFrame"]
TRUTHS: dict[str, Truth] = {
    "acdc": acdc_truth,
    "frames": frames_truth,
    "mms": mms_truth,
    "bcdr": bcdr_truth,
}


def _shares(n: int, shares: list[float]) -> list[int]:
    """Return whole numbers that sum to `n`, at least one each, about in the given shares."""
    counts = [max(1, round(n * share)) for share in shares]
    counts[0] += n - sum(counts)
    return counts


def draw_heart(row: Mapping[Any, Any], knobs: Knobs, size: int, seed: int, dataset: str) -> Volume:
    """Draw one volume; `frames` gets it prepared, as the released code expects it."""
    from workflow_scripts.datasets.volumes import in_plane_137
    from workflow_scripts.phantoms.cardiac import CardiacCase, render_cardiac

    streams = functools.partial(named_rng, seed, "phantom", dataset, str(row["patient_id"]))
    case = CardiacCase(row["frame"], row["group"], row["vendor"])
    own = of_patient(knobs, streams("ambiguity"))
    volume = Volume(*render_cardiac(streams, case, own, size))
    return in_plane_137(volume) if str(row["path"]).endswith("_img.nii.gz") else volume


def draw_lesion(
    row: Mapping[Any, Any], knobs: Knobs, size: int, seed: int, dataset: str
) -> tuple[Volume, str]:
    """Draw one mammogram as a volume of one slice; return it with its outline as text."""
    from workflow_scripts.datasets.contours import contour_text, fill_contour
    from workflow_scripts.phantoms.mammogram import MammogramCase, render_mammogram

    streams = functools.partial(named_rng, seed, "phantom", dataset, str(row["patient_id"]))
    case = MammogramCase(str(row["path"]), row["view"], row["group"] == "Malign")
    own = of_patient(knobs, streams("ambiguity"))
    pixels, outline = render_mammogram(streams, case, own, size)
    mask = fill_contour(outline, *pixels.shape)
    return Volume(pixels[None], mask[None], (float("nan"),) * 3), contour_text(outline)


def draw_one_slice(
    row: Mapping[Any, Any], draw: Callable[[Mapping[Any, Any]], tuple[Volume, str]]
) -> Volume:
    """Draw one mammogram without its outline."""
    return draw(row)[0]

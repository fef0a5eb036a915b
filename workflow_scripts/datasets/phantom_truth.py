"""What is true of synthetic patients: who they are, what they have, how often they come.

One pure function a kind of data set: generator in, truth table out, one row an image. Columns are
the `TRUTH_COLUMNS` of `layout.py` and what the renderer needs besides: `findings` (chest, joined
by `|`, empty in health), `mode` (Pillow mode of the file), `domain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workflow_scripts.datasets.chestx import FOURTEEN, NO_FINDING, SEVEN
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

Rng = np.random.Generator

TEST_SHARE: Final = 0.2  # of the patients, as in the released splits
MAX_SAME: Final = 4  # images of one patient that show the same single finding
RGBA_SHARE: Final = 0.02  # of ChestX-ray14's files (3 of the 121 real ones at hand)
TB_TEXTS: Final = (  # ways in which a radiologist words the diagnosis
    "bilateral PTB",
    "right upper PTB",
    "left upper PTB with cavity",
    "secondary PTB in both upper fields",
    "PTB with pleuritis",
)
BACH_PREFIXES: Final = {"Normal": "n", "Benign": "b", "InSitu": "is", "Invasive": "iv"}
HOSPITALS: Final = ("north", "south")


def chestx_truth(rng: Rng, n_patients: int, min_per_class: int, months: bool) -> pd.DataFrame:
    """Return patients of a hospital: several images each, findings that come and go.

    Args:
        rng: all randomness.
        n_patients: how many; a tenth has each of the seven findings as the leading one, two
            tenths are healthy, one tenth has one of the other findings.
        min_per_class: images wanted that show exactly one of the seven, for each of them.
        months: whether the release can write a baby's age in months.

    Returns:
        The truth, sorted by image; `split` is `train` or `test`, by patient.

    Raises:
        InputError: if there are too few patients for `min_per_class`.
    """
    import pandas as pd

    others = [finding for finding in FOURTEEN if finding not in SEVEN]
    leading: list[str] = []
    for number in range(n_patients):
        role = number % 10
        rare = others[number // 10 % len(others)]
        leading.append(SEVEN[role] if role < 7 else (rare if role == 9 else NO_FINDING))
    _require_patients(leading, SEVEN, min_per_class)
    visits = [_visits(rng, finding) for finding in leading]
    for finding in SEVEN:
        _top_up(
            visits, [i for i, lead in enumerate(leading) if lead == finding], finding, min_per_class
        )
    order = rng.permutation(n_patients)  # so that a patient's number says nothing
    is_test = _test_patients(rng, leading)
    rows: list[dict[str, Any]] = []
    for number, patient in enumerate(order, start=1):
        age, sex = _age(rng, months and number % 60 == 7), "FM"[int(rng.integers(2))]
        split = "test" if is_test[patient] else "train"
        rows += _chestx_rows(rng, number, visits[patient], sex, age, split)
    return pd.DataFrame(rows)


def _require_patients(leading: Sequence[str], classes: Sequence[str], wanted: int) -> None:
    """Refuse a number of patients from which the wanted images cannot come."""
    counts = {name: list(leading).count(name) for name in classes}
    lowest = max(2, -(-wanted // MAX_SAME))  # two, so that both splits have one
    if min(counts.values()) < lowest:
        share = len(leading) / max(1, sum(counts.values())) * len(classes)
        raise InputError(
            [
                Problem(
                    "phantom patients",
                    f"at least {lowest} patients of each class for min_per_class {wanted}",
                    f"{count} of {name} among {len(leading)} patients",
                    f"ask for about {round(share * lowest) + len(classes)} patients or more",
                )
                for name, count in counts.items()
                if count < lowest
            ]
        )


def _visits(rng: Rng, leading: str) -> list[str]:
    """Return the label text of each of a patient's images; the first shows the leading one."""
    texts = [leading]
    for _ in range(min(int(rng.geometric(0.4)) - 1, 7)):
        draw = rng.random()
        if draw < 0.5 and texts.count(leading) < MAX_SAME:
            texts.append(leading)
        elif draw < 0.75 or leading == NO_FINDING:
            texts.append(NO_FINDING)
        else:
            others = [finding for finding in FOURTEEN if finding != leading]
            more = rng.choice(others, int(rng.integers(1, 3)), replace=False).tolist()
            texts.append("|".join(sorted([leading, *more])))
    return texts


def _top_up(visits: list[list[str]], patients: Sequence[int], text: str, wanted: int) -> None:
    """Add visits that show just `text`, in turn to the patients with the fewest of them."""
    count = sum(visits[patient].count(text) for patient in patients)
    while count < wanted:
        fewest = min(patients, key=lambda patient: visits[patient].count(text))
        visits[fewest].append(text)
        count += 1


def _test_patients(rng: Rng, leading: Sequence[str]) -> list[bool]:
    """Draw a fifth of the patients of each leading finding, at least one."""
    is_test = [False] * len(leading)
    for finding in sorted(set(leading)):
        members = [number for number, lead in enumerate(leading) if lead == finding]
        n_test = max(1, round(TEST_SHARE * len(members))) if len(members) > 1 else 0
        for number in rng.choice(members, n_test, replace=False):
            is_test[int(number)] = True
    return is_test


def _age(rng: Rng, is_baby: bool) -> float:
    if is_baby:
        return int(rng.integers(3, 22)) / 12
    return float(np.clip(round(rng.normal(49, 17)), 4, 92))


def _chestx_rows(
    rng: Rng, number: int, texts: Sequence[str], sex: str, age: float, split: str
) -> list[dict[str, Any]]:
    patient = f"{number:08d}"
    rows = []
    for visit, text in enumerate(texts):
        name = f"{patient}_{visit:03d}.png"
        rows.append(
            {
                "image_id": name,
                "path": f"images/{name}",
                "patient_id": patient,
                "study_id": f"{patient}_{visit:03d}",
                "view": "PA" if rng.random() < 0.6 else "AP",  # 60 % PA in ChestX-ray14
                "sex": sex,
                "age_years": age if age < 2 else age + visit // 2,
                "label_text": text,
                "split": split,
                "findings": "" if text == NO_FINDING else text,
                "mode": "RGBA" if rng.random() < RGBA_SHARE else "L",
                "domain": "nih",
            }
        )
    return rows


def shenzhen_truth(rng: Rng, n_images: int, min_per_class: int) -> pd.DataFrame:
    """Return single visits: healthy people, and as many with tuberculosis.

    Raises:
        InputError: if there are too few images for `min_per_class`.
    """
    import pandas as pd

    n_normal = n_images // 2
    require_images(n_normal, min_per_class, 2)
    rows = []
    for number in range(1, n_images + 1):
        is_ill = number > n_normal
        name = f"CHNCXR_{number:04d}_{int(is_ill)}.png"
        text = TB_TEXTS[int(rng.integers(len(TB_TEXTS)))] if is_ill else "normal"
        rows.append(
            {
                **single_visit(name, f"ChinaSet_AllFiles/CXR_png/{name}", text),
                "sex": "FM"[int(rng.random() < 0.67)],  # about two thirds are men
                "age_years": float(np.clip(round(rng.normal(36, 14)), 4, 89)),
                "findings": "Tuberculosis" if is_ill else "",
                "mode": "RGB",
                "domain": "shenzhen",
            }
        )
    return pd.DataFrame(rows)


def bach_truth(rng: Rng, n_images: int, min_per_class: int) -> pd.DataFrame:
    """Return microscope fields, the same number of each class; the archive names no patient.

    Raises:
        InputError: if there are too few images for `min_per_class`.
    """
    import pandas as pd

    per_class = n_images // len(BACH_PREFIXES)
    require_images(per_class, min_per_class, len(BACH_PREFIXES))
    rows = []
    for label, prefix in BACH_PREFIXES.items():
        for number in range(1, per_class + 1):
            name = f"{prefix}{number:03d}.tif"
            path = f"ICIAR2018_BACH_Challenge/Photos/{label}/{name}"
            rows.append({**single_visit(name, path, label), "mode": "RGB", "domain": "bach"})
    return pd.DataFrame(rows)


def require_images(per_class: int, min_per_class: int, n_classes: int) -> None:
    """Refuse a number of images that leaves a class with too few."""
    lowest = max(2, min_per_class)
    if per_class < lowest:
        raise InputError(
            [
                Problem(
                    "phantom images",
                    f"at least {lowest} images of each class",
                    f"{per_class}",
                    f"ask for {lowest * n_classes} images or more",
                )
            ]
        )


def single_visit(name: str, path: str, text: str) -> dict[str, Any]:
    """Return a row whose archive knows neither patient nor visit."""
    return {
        "image_id": name,
        "path": path,
        "patient_id": name,
        "study_id": name,
        "view": None,
        "sex": None,
        "age_years": float("nan"),
        "label_text": text,
        "split": None,
        "findings": "",
    }


def table_truth(
    rng: Rng, n_patients: int, min_per_class: int, classes: Sequence[str], folder: str
) -> pd.DataFrame:
    """Return a small study of a user's own: one leading class a patient, two hospitals.

    Args:
        rng: all randomness.
        n_patients: spread evenly over the classes.
        min_per_class: images wanted of each class.
        classes: names; one that is no known finding is health.
        folder: that holds the images, relative to the data set's folder.

    Raises:
        InputError: if there are too few patients for `min_per_class`.
    """
    import pandas as pd

    leading = [classes[number % len(classes)] for number in range(n_patients)]
    _require_patients(leading, classes, min_per_class)
    visits = [[name] * int(rng.integers(1, 4)) for name in leading]
    for name in classes:
        _top_up(visits, [i for i, lead in enumerate(leading) if lead == name], name, min_per_class)
    is_test = _test_patients(rng, leading)
    rows: list[dict[str, Any]] = []
    for number, patient in enumerate(rng.permutation(n_patients), start=1):
        sex, age = "FM"[int(rng.integers(2))], _age(rng, is_baby=False)
        domain = HOSPITALS[int(rng.integers(2))]
        for visit, text in enumerate(visits[patient]):
            name = f"p{number:04d}_{visit}.png"
            rows.append(
                {
                    **single_visit(name, f"{folder}/{name}" if folder else name, text),
                    "patient_id": f"p{number:04d}",
                    "study_id": f"p{number:04d}_{visit}",
                    "view": "PA" if rng.random() < 0.6 else "AP",
                    "sex": sex,
                    "age_years": age,
                    "split": "test" if is_test[patient] else "train",
                    "findings": text,
                    "mode": "L",
                    "domain": domain,
                }
            )
    return pd.DataFrame(rows)

"""Phantoms of fundus, CT, natural-image and Montgomery archives: who is in them, what draws them.

One entry of `KINDS` a layout; `phantom.py` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from workflow_scripts.datasets import (
    cifar10,
    diabetic_retinopathy,
    ichallenge_amd,
    ichallenge_pm,
    montgomery,
    stoic,
)
from workflow_scripts.datasets.layout import Options
from workflow_scripts.datasets.phantom_truth import (
    TB_TEXTS,
    TEST_SHARE,
    require_images,
    single_visit,
)
from workflow_scripts.phantoms.knobs import Knobs, Streams

if TYPE_CHECKING:
    import pandas as pd

Rng = np.random.Generator
# Shares of a patient's second eye: the same grade, one off, anything (EyePACS is about so).
SECOND_EYE: Final = (0.7, 0.25, 0.05)
N_GRADES: Final = len(diabetic_retinopathy.GRADES)


@dataclass(frozen=True, slots=True)
class Kind:
    """How the phantom of one layout is made.

    Attributes:
        anatomy: what it shows; chooses the renderer.
        count: whether its size is given in `patients` or `images`.
        truth: generator, count, images wanted a class, options -> one row an image.
        height_share: height over width of the archive's pictures.
    """

    anatomy: str
    count: Literal["patients", "images"]
    truth: Callable[[Rng, int, int, Options], pd.DataFrame]
    height_share: float = 1.0


def eyepacs_truth(rng: Rng, n_patients: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return patients with two eyes, whose grades mostly agree; rows alternate left, right.

    Raises:
        InputError: too few patients for `min_per_class`.
    """
    import pandas as pd

    per_grade = n_patients // N_GRADES
    require_images(per_grade, min_per_class, N_GRADES)
    rows = []
    for number in range(n_patients):
        grade = number % N_GRADES
        split = "test" if number // N_GRADES < max(1, round(TEST_SHARE * per_grade)) else "train"
        kind = int(rng.choice(3, p=SECOND_EYE))
        off = int(np.clip(grade + rng.choice([-1, 1]), 0, N_GRADES - 1))
        second = (grade, off, int(rng.integers(N_GRADES)))[kind]
        age = float(np.clip(round(rng.normal(56, 12)), 20, 88))
        for side, level in (("left", grade), ("right", second)):
            patient = str(10 + 3 * number)  # the archive's numbers have gaps
            name = f"{patient}_{side}"
            row = single_visit(name, f"{split}/{name}.jpeg", str(level))
            row |= {"patient_id": patient, "study_id": patient, "view": side, "split": split}
            disease = f"diabetic retinopathy {level}" if level else None
            rows.append(row | _drawn(disease, "RGB", "eyepacs") | {"age_drawn": age})
    table = pd.DataFrame(rows)
    # The index files follow each other; a stable sort keeps the eyes of a patient together.
    return table.sort_values("split", ascending=False, kind="stable", ignore_index=True)


def amd_truth(rng: Rng, n_images: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return one eye a patient: half with macular degeneration."""
    import pandas as pd

    n_ill = n_images // 2
    require_images(n_ill, min_per_class, 2)
    rows = []
    for label, letter, count in ((1, "A", n_ill), (0, "N", n_images - n_ill)):
        for number in range(1, count + 1):
            name = f"{letter}{number:04d}"
            path = f"{ichallenge_amd.FOLDERS[label]}/{name}.jpg"
            disease = "macular degeneration" if label else None
            rows.append(
                single_visit(name, path, str(label)) | _drawn(disease, "RGB", "ichallenge_amd", rng)
            )
    table = pd.DataFrame(rows)
    # As the reader of the folders lists them; the list of the released code may have any order.
    if ichallenge_amd.LAYOUT.policy(options) == "folder":
        table = table.sort_values(["label_text", "image_id"], ignore_index=True)
    return table


def pm_truth(rng: Rng, n_images: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return one eye a patient: healthy (40 %), highly myopic (20 %), pathologic (40 %)."""
    import pandas as pd

    rows = []
    classes = np.array(["N", "N", "H", "P", "P"])[np.arange(n_images) % 5]
    counts = {letter: int((classes == letter).sum()) for letter in "NHP"}
    require_images(min(counts["N"], counts["P"]), min_per_class, 2)
    diseases = {"N": None, "H": "high myopia", "P": "pathologic myopia"}
    for letter, disease in diseases.items():
        for number in range(1, counts[letter] + 1):
            name = f"{letter}{number:04d}.jpg"
            path, label = f"{ichallenge_pm.FOLDER}/{name}", ichallenge_pm.LETTERS[letter]
            rows.append(
                single_visit(name, path, label) | _drawn(disease, "RGB", "ichallenge_pm", rng)
            )
    return pd.DataFrame(rows)


def montgomery_truth(rng: Rng, n_images: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return single visits: healthy people (58 %, as published), the others with tuberculosis."""
    import pandas as pd

    n_normal = min(round(0.58 * n_images), n_images - max(2, min_per_class))
    require_images(min(n_normal, n_images - n_normal), min_per_class, 2)
    rows = []
    for number in range(1, n_images + 1):
        is_ill = number > n_normal
        name = f"MCUCXR_{number:04d}_{int(is_ill)}.png"
        text = TB_TEXTS[int(rng.integers(len(TB_TEXTS)))] if is_ill else "normal"
        row = single_visit(name, f"{montgomery.FOLDER}/{name}", text)
        row |= {"sex": "FM"[int(rng.random() < 0.46)]}
        row |= {"age_years": float(np.clip(round(rng.normal(40, 18)), 4, 89))}
        found = {"findings": "Tuberculosis" if is_ill else "", "mode": "L", "domain": "montgomery"}
        rows.append(row | found)
    return pd.DataFrame(rows)


def stoic_truth(rng: Rng, n_images: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return one volume a patient: 60 % with COVID-19, a quarter of them severe (as published)."""
    import pandas as pd

    n_ill = min(round(0.6 * n_images), n_images - max(2, min_per_class))
    n_severe = max(1, n_ill // 4)
    require_images(min(n_ill, n_images - n_ill), min_per_class, 2)
    labels = np.array(["1|1"] * n_severe + ["1|0"] * (n_ill - n_severe))
    labels = rng.permutation(np.concatenate([labels, ["0|0"] * (n_images - n_ill)]))
    part = stoic.ORIENTATIONS[str(options.get("orientation") or "released")]
    rows = []
    for number, label in enumerate(labels, start=1):
        path = f"{stoic.FOLDER}/{number}.mha#{part}"
        severity = sum(map(int, label.split("|")))
        row = single_visit(str(number), path, str(label))
        rows.append(row | {"severity": severity, "mode": "HU", "domain": "stoic"})
    return pd.DataFrame(rows)


def cifar_truth(rng: Rng, n_images: int, min_per_class: int, options: Options) -> pd.DataFrame:
    """Return pictures of all classes, the same number in each of the six batches."""
    import pandas as pd

    n_classes = len(cifar10.CLASSES)
    n_batches = len(cifar10.BATCHES)
    per_batch = n_images // (n_classes * n_batches)
    require_images(per_batch * n_batches, max(n_batches, min_per_class), n_classes)
    rows: list[dict[str, Any]] = []
    for name, split in cifar10.BATCHES.items():
        labels = rng.permutation(np.repeat(np.arange(n_classes), per_batch))
        for row, label in enumerate(labels.tolist()):
            image_id, thing = f"{name}_{row:05d}", cifar10.CLASSES[label]
            text = f"{thing}_s_{len(rows):06d}.png"
            base = single_visit(image_id, f"{cifar10.FOLDER}/{name}#{row}", text)
            more = {"split": split, "label": label, "thing": thing}
            rows.append(base | more | {"mode": "RGB", "domain": "cifar10"})
    return pd.DataFrame(rows)


def _drawn(disease: str | None, mode: str, domain: str, rng: Rng | None = None) -> dict[str, Any]:
    """Return what the renderer of eyes needs; with `rng` a side and an age nobody publishes."""
    row: dict[str, Any] = {"disease": disease, "mode": mode, "domain": domain}
    if rng is not None:
        row["side"] = "left" if rng.random() < 0.5 else "right"
        row["age_drawn"] = float(np.clip(round(rng.normal(58, 14)), 18, 90))
    return row


def draw_kind(
    row: Mapping[str, Any], anatomy: str, streams: Streams, knobs: Knobs, size: int
) -> np.ndarray:
    """Return the pixels (a volume for CT) of one row of a truth of this module.

    Raises:
        ValueError: an anatomy that is not drawn here.
    """
    if anatomy == "fundus":
        from workflow_scripts.phantoms.fundus import EyeCase, render_fundus

        side = row.get("side") or row["view"]
        disease = row["disease"] if isinstance(row["disease"], str) else None
        case = EyeCase(row["image_id"], str(side), disease, float(row["age_drawn"]))
        return render_fundus(streams, case, knobs, size)
    if anatomy == "ct":
        from workflow_scripts.phantoms.ct import render_ct

        return render_ct(streams, int(row["severity"]), knobs, size)
    if anatomy == "natural":
        from workflow_scripts.phantoms.natural import render_thing

        return render_thing(streams, row["image_id"], row["thing"], knobs)
    raise ValueError(f"no such anatomy: {anatomy!r}")


DRAWN_HERE: Final = ("fundus", "ct", "natural")
KINDS: Final[dict[str, Kind]] = {
    "diabetic_retinopathy": Kind("fundus", "patients", eyepacs_truth),
    "ichallenge_amd": Kind("fundus", "images", amd_truth),
    "ichallenge_pm": Kind("fundus", "images", pm_truth),
    "montgomery": Kind("chest", "images", montgomery_truth, height_share=4020 / 4892),
    "stoic": Kind("ct", "images", stoic_truth),
    "cifar10": Kind("natural", "images", cifar_truth),
}

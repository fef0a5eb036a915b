"""What is true of the synthetic patients of CheXpert, MIMIC-CXR-JPG and PadChest.

As `phantom_truth`, for archives with several studies a patient, lateral views beside frontal ones,
labels that may be uncertain or blank, and people of whom sex, age or race is sometimes unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workflow_scripts.datasets.chest_findings import LUNG_OPACITIES, OBSERVATIONS
from workflow_scripts.datasets.chexpert import FULL, SMALL
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd

Rng = np.random.Generator

SHOWN: Final = ("Effusion", "Edema", "Pneumonia", "Cardiomegaly", "Atelectasis", "Consolidation",
                "Pneumothorax")  # fmt: skip
LEADING: Final = (None, "Effusion", None, "Edema", None, "Effusion", "Pneumonia", None, "Effusion",
                  "Cardiomegaly", "Atelectasis", None, "Consolidation", "Pneumothorax")  # fmt: skip
UNCERTAIN_SHARE: Final = 0.12  # of CheXpert's labels that say anything, 5 to 15 % by finding
SAID_ABSENT_SHARE: Final = 0.3  # of the absent findings, those that a report denies
LATERAL_SHARE: Final = 0.15  # of CheXpert's studies have a second, lateral view
UNKNOWN_SHARE: Final = 0.03  # of the people, for each attribute
TEST_SHARE: Final = 0.2  # of the patients
RACES: Final = ("White, non-Hispanic", "Asian, non-Hispanic", "Black, non-Hispanic", "Other")
PADCHEST_NAMES: Final = {"Edema": "pulmonary edema", "Effusion": "pleural effusion"}


@dataclass(frozen=True, slots=True)
class Visit:
    """One study: who, which one of theirs, what they have."""

    patient: int
    study: int
    sex: str | None
    age_years: float
    race: str | None
    findings: tuple[str, ...]
    is_test: bool


def sample_visits(rng: Rng, n_patients: int) -> list[Visit]:
    """Return the studies of `n_patients` people; findings lead, come and go from study to study."""
    visits = []
    n_test = max(1, round(TEST_SHARE * n_patients))
    in_test = set(rng.choice(n_patients, n_test, replace=False).tolist())
    roles = rng.permutation(n_patients)  # so that a patient's number says nothing
    for patient in range(n_patients):
        finding = LEADING[int(roles[patient]) % len(LEADING)]
        leading = () if finding is None else (finding,)
        sex = None if rng.random() < UNKNOWN_SHARE else "FM"[int(rng.integers(2))]
        age = float(np.clip(round(rng.normal(60, 16)), 18, 90))
        race = None if rng.random() < UNKNOWN_SHARE else RACES[int(rng.integers(len(RACES)))]
        for study in range(1, 1 + min(int(rng.geometric(0.6)), 4)):
            others = [name for name in SHOWN if name not in leading]
            more = rng.choice(others, int(rng.random() < 0.25), replace=False).tolist()
            findings = tuple(sorted((*leading, *(more if leading else ()))))
            visits.append(Visit(patient + 1, study, sex, age, race, findings, patient in in_test))
    return visits


def observation_text(rng: Rng, findings: tuple[str, ...]) -> str:
    """Return what CheXpert's labeller says of a report, with its doubts and its silence."""
    present = {"Pleural Effusion" if name == "Effusion" else name for name in findings}
    if set(findings) & set(LUNG_OPACITIES):
        present.add("Lung Opacity")
    if not findings:
        present.add("No Finding")
    said = []
    for name in OBSERVATIONS:
        is_there = name in present
        doubtful = name != "No Finding" and rng.random() < UNCERTAIN_SHARE * (
            1 if is_there else 0.2
        )
        if doubtful:
            said.append(f"{name}=-1")
        elif is_there:
            said.append(f"{name}=1")
        elif name != "No Finding" and rng.random() < SAID_ABSENT_SHARE:
            said.append(f"{name}=0")
    return "|".join(said)


def label_list(findings: tuple[str, ...]) -> str:
    """Return what PadChest says of a study."""
    names = [PADCHEST_NAMES.get(name, name.lower()) for name in findings]
    return "|".join(names or ["normal"])


def _images(
    rng: Rng, visits: list[Visit], describe: Callable[[Visit, int, bool], dict[str, Any]],
    text_of: Callable[[Rng, tuple[str, ...]], str],
) -> pd.DataFrame:  # fmt: skip
    """Return the truth table; `describe` gives ids and path of a visit's image (is it lateral?)."""
    import pandas as pd

    rows = []
    for visit in visits:
        text = text_of(rng, visit.findings)
        sides = [False, True] if rng.random() < LATERAL_SHARE else [False]
        for number, is_lateral in enumerate(sides, start=1):
            view = "lateral" if is_lateral else ("AP" if rng.random() < 0.6 else "PA")
            rows.append(
                {
                    **describe(visit, number, is_lateral),
                    "view": view,
                    "sex": visit.sex,
                    "age_years": visit.age_years,
                    "race": visit.race,
                    "label_text": text,
                    "findings": "|".join(visit.findings),
                    "mode": "L",
                }
            )
    return pd.DataFrame(rows)


def chexpert_truth(rng: Rng, n_patients: int, min_per_class: int, full: bool) -> pd.DataFrame:
    """Return CheXpert's images; those of the test patients stand in valid/.

    Raises:
        InputError: too few images with or without effusion for `min_per_class`.
    """
    release = FULL if full else SMALL

    def describe(visit: Visit, number: int, is_lateral: bool) -> dict[str, Any]:
        part = "valid" if visit.is_test else "train"
        patient, study = f"patient{visit.patient:05}", f"study{visit.study}"
        side = "lateral" if is_lateral else "frontal"
        image = f"{part}/{patient}/{study}/view{number}_{side}.jpg"
        return {
            "image_id": image,
            "path": f"{release}/{image}",
            "patient_id": patient,
            "study_id": f"{patient}/{study}",
            "split": "test" if visit.is_test else "train",
            "domain": "chexpert",
        }

    truth = _images(rng, sample_visits(rng, n_patients), describe, observation_text)
    _require(truth, truth["label_text"].str.contains("Pleural Effusion=1"), min_per_class)
    return truth.sort_values("image_id", ignore_index=True)  # train.csv, then valid.csv


def mimic_cxr_truth(rng: Rng, n_patients: int, min_per_class: int) -> pd.DataFrame:
    """Return MIMIC-CXR-JPG's images; the archive knows neither sex nor age nor race.

    Raises:
        InputError: too few images with or without finding for `min_per_class`.
    """

    def describe(visit: Visit, number: int, is_lateral: bool) -> dict[str, Any]:
        subject, study = f"{10_000_000 + visit.patient}", f"5{visit.patient:06}{visit.study}"
        dicom = "-".join(f"{part:08x}" for part in rng.integers(0, 2**32, 5))
        split = ("val" if visit.patient % 2 else "test") if visit.is_test else "train"
        return {
            "image_id": dicom,
            "path": f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg",
            "patient_id": subject,
            "study_id": study,
            "split": split,
            "domain": "mimic_cxr",
        }

    truth = _images(rng, sample_visits(rng, n_patients), describe, observation_text)
    _require(truth, truth["findings"] != "", min_per_class)
    return truth.assign(sex=None, age_years=float("nan"), race=None)


def padchest_truth(rng: Rng, n_patients: int, min_per_class: int) -> pd.DataFrame:
    """Return PadChest's images, in a few of its numbered folders.

    Raises:
        InputError: too few images with or without finding for `min_per_class`.
    """

    def describe(visit: Visit, number: int, is_lateral: bool) -> dict[str, Any]:
        name = f"2168401113669640{visit.patient:06}{visit.study}_0{number}.png"
        return {
            "image_id": name,
            "path": f"{visit.patient % 3}/{name}",
            "patient_id": f"{visit.patient:032}",
            "study_id": f"{visit.patient:032}{visit.study}",
            "split": None,
            "domain": "padchest",
        }

    def text_of(_: Rng, findings: tuple[str, ...]) -> str:
        return label_list(findings)

    truth = _images(rng, sample_visits(rng, n_patients), describe, text_of)
    _require(truth, truth["findings"] != "", min_per_class)
    return truth


def _require(truth: pd.DataFrame, is_ill: pd.Series, min_per_class: int) -> None:
    """Refuse a number of patients that gave too few images of a class."""
    fewest = min(int(is_ill.sum()), int((~is_ill).sum()))
    if fewest < min_per_class:
        expected = f"patients that give {min_per_class} images of each class"
        found = f"{fewest} images of a class, from {truth['patient_id'].nunique()} patients"
        raise refuse("phantom patients", expected, found, "ask for more patients")

"""Who trains and who validates, from a manifest; patients who do both are refused or named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from workflow_scripts.files import read_json
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd

SOUND = "split"  # the manifest's own split, in place of a released list
BOTH = "train+val"  # of a released list that has a patient in both

Overlap = Literal["keep", "leave_out", "refuse"]


class Patients(NamedTuple):
    """The patients of one training.

    Attributes:
        train: ids.
        val: ids; on these the weights are selected.
        in_both: ids of the list that train and would validate as well.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    in_both: tuple[str, ...]


def patients_of(manifest: pd.DataFrame, name: str, overlap: Overlap, where: str) -> Patients:
    """Return the patients of a released list, or of the manifest's own split.

    Args:
        manifest: of a segmentation data set.
        name: a list, such as `10_cv_0`, or `split`.
        overlap: some released lists have patients in training and validation: `keep` them in
            both, `leave_out` of the validation, or `refuse` the list.
        where: the manifest's name, for messages.

    Raises:
        InputError: no such list; a refused overlap; nobody to train on or to validate on.
    """
    column = SOUND if name == SOUND else f"split_released_{name}"
    if column not in manifest:
        lists = [str(one) for one in manifest if str(one).startswith("split_released_")]
        found, advice = ", ".join(lists) or "none", "name the list under `lists` of the data set"
        raise refuse(where, f"a column {column}", found, advice)
    groups = manifest.groupby("patient_id", sort=True)[column]
    torn = groups.nunique(dropna=False)
    if (torn > 1).any():
        found = ", ".join(map(str, torn.index[torn > 1]))
        raise refuse(f"{where}: {column}", "each patient in one part", found, "mend the split")
    split_of = groups.first()
    both = tuple(split_of.index[split_of == BOTH])
    if both and overlap == "refuse":
        found = f"{', '.join(both)} in training and validation"
        expected = "patients who only train or only validate"
        advice = "choose another list, --overlap leave_out, or --protocol released"
        raise refuse(f"{where}: {column}", expected, found, advice)
    train = tuple(split_of.index[split_of.isin(["train", BOTH])])
    validates = ["val", BOTH] if overlap == "keep" else ["val"]
    val = tuple(split_of.index[split_of.isin(validates)])
    if not train or not val:
        found = f"{len(train)} to train on and {len(val)} to validate on"
        raise refuse(f"{where}: {column}", "patients for both", found, "choose another list")
    return Patients(train, val, both)


def check_leaks(certificate: Path, name: str, n_in_both: int, n_files: int) -> None:
    """Refuse a list with a leak that is not the known overlap of training and validation.

    Args:
        certificate: `leak_free.json` of the data set or the experiment.
        name: as for `patients_of`.
        n_in_both: patients of the list in training and validation, whom `patients_of` let pass.
        n_files: different files of these patients.

    Raises:
        InputError: the certificate does not know the split, or another patient or file leaks.
    """
    proven = read_json(certificate)
    column = SOUND if name == SOUND else f"split_released_{name}"
    if column not in proven:
        found = ", ".join(proven)
        raise refuse(str(certificate), f"a proof of {column}", found, "make it with datasets.leaks")
    proof = proven[column]
    known = f"the {n_in_both} patients ({n_files} files) whom the list has in both"
    leaks = proof["patients_in_two_splits"], proof["files_in_two_splits"]
    if leaks != (n_in_both, n_files):
        found = f"{leaks[0]} patients and {leaks[1]} files in two splits"
        raise refuse(f"{certificate}: {column}", known, found, "mend the data set")

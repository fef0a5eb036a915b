"""Findings of chest X-rays: the nine that four data sets share, and those of CheXpert's labeller.

CheXpert and MIMIC-CXR-JPG have the same 14 observations, each 1 (present), 0 (absent), -1
(uncertain) or blank (not mentioned in the report). A blank counts as absent in every policy, as
in the released code of all three papers; what an uncertain one counts as is the option
`uncertain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from workflow_scripts.datasets.index_csv import outside
from workflow_scripts.datasets.layout import Options
from workflow_scripts.problems import Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

NINE: Final = (  # CROCODILE's findings in its order (spec 2.3)
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Lung Opacity",
    "No Finding",
    "Pneumonia",
    "Pneumothorax",
)
LUNG_OPACITIES: Final = ("Atelectasis", "Consolidation", "Edema", "Effusion", "Pneumonia")
OBSERVATIONS: Final = (  # of CheXpert's labeller, in the order of CheXpert's columns
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
CELLS: Final = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": float("nan")}
CELLS_SHORT: Final = {"1": 1.0, "0": 0.0, "-1": -1.0}  # as another program may have saved them
PRESENT, UNCERTAIN = 1.0, -1.0

FRONTAL_VIEW: Final = "a frontal view"
UNCERTAIN_RULES: Final = {
    "ignore": "neither: the image is left out, of several findings only the uncertain ones",
    "positive": "present: CheXpert's U-Ones, and the released few-shot evaluation",
    "negative": "absent: CheXpert's U-Zeros",
    "released_linear": "absent, by accident: the released code smooths it to a number between "
    "0.55 and 0.85 and then cuts the decimals off",
    "released_dne": "present for Edema and Atelectasis, absent for all others",
}
RELEASED_DNE_PRESENT: Final = ("Edema", "Atelectasis")  # dne spec 3.3
DISEASES: Final = ("Pleural Effusion", "Pneumonia", "Edema", "Lung Lesion")  # dne spec 3.3
VIEWS: Final = ("frontal", "all")
OBSERVATION_POLICIES: Final = {
    "effusion_vs_rest": "released (ssl_transfer): Pleural Effusion against everything else",
    "nine_findings": "CROCODILE's nine findings, one column each",
    "fourteen_observations": "all 14 observations, one column each",
    "no_finding_vs_disease": "debiased noise: exactly one of No Finding and option disease is "
    "present, and neither is uncertain",
    "no_finding_vs_disease_released": "released (debiased noise): both as columns, whatever they "
    "are; rows may have neither or both",
}
# What a policy does where the config entry is silent: (views, uncertain).
DEFAULTS: Final = {
    "effusion_vs_rest": ("all", "ignore"),  # views as released
    "nine_findings": ("frontal", "negative"),  # CROCODILE spec 2.4; the paper's rule is unknown
    "fourteen_observations": ("all", "ignore"),
    "no_finding_vs_disease": ("frontal", "ignore"),  # dne spec 3.6
    "no_finding_vs_disease_released": ("all", "released_dne"),  # no filter in the released code
}
OPTIONS: Final = {
    "uncertain": f"what -1 counts as: {', '.join(UNCERTAIN_RULES)}",
    "views": "frontal or all",
    "disease": f"of the policies no_finding_vs_disease: {', '.join(DISEASES)}",
}
CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "uncertain": tuple(UNCERTAIN_RULES),
    "views": VIEWS,
    "disease": DISEASES,
}


class Labels(NamedTuple):
    """What a label policy makes of an index.

    Attributes:
        table: `label` or `label_{finding}`, and `dropped` (None, or the filter).
        classes: class names in label order, or the findings.
        filters: in the order in which they work.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    filters: tuple[str, ...]


def observation_values(
    cells: pd.DataFrame, file: str, columns: Sequence[str] = OBSERVATIONS
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the observations as 1, 0, -1 or NaN (blank), and the cells that are none of these."""
    import pandas as pd

    known = CELLS | CELLS_SHORT
    values: dict[str, pd.Series] = {}
    problems: list[Problem] = []
    for column in columns:
        texts = cells[column]
        expected = f"1.0, 0.0, -1.0 or nothing in {column}"
        allowed = texts.isin(known.keys())
        problems += outside(cells, file, column, allowed, expected, "use the published file")
        values[column] = texts.map(known).astype(float)
    return pd.DataFrame(values, index=cells.index), problems


def label_texts(values: pd.DataFrame) -> pd.Series:
    """Return the observations that are not blank, such as `Edema=1|Pleural Effusion=-1`."""
    import pandas as pd

    texts = pd.Series("", index=values.index, dtype=object)
    for column in values.columns:
        said = values[column].map({1.0: f"{column}=1", 0.0: f"{column}=0", -1.0: f"{column}=-1"})
        said = said.astype(object).where(said.notna(), "")
        glue = ((texts != "") & (said != "")).map({True: "|", False: ""})
        texts = texts + glue + said
    return texts


def observation_labels(
    values: pd.DataFrame, is_frontal: pd.Series, policy: str, options: Options
) -> Labels:
    """Apply a policy of `OBSERVATION_POLICIES`.

    Args:
        values: 1, 0, -1 or NaN (blank), a column an observation, shape (N, 14).
        is_frontal: whether the image is a frontal view, shape (N,).
        policy: its name.
        options: the config entry: `uncertain`, `views`, `disease`.

    Returns:
        The label columns of the N images, and what the filters took out.

    Raises:
        InputError: a rule for uncertain labels that the policy cannot follow.

    Source: ssl_transfer spec 3 (golden `chexpert_labels`), CROCODILE spec 2.4, dne spec 3.3
    (golden `N_dataset`).
    """
    views, uncertain = (
        str(options.get(key) or default)
        for key, default in zip(("views", "uncertain"), DEFAULTS[policy], strict=True)
    )
    passes = {FRONTAL_VIEW: is_frontal} if views == "frontal" else {}
    disease = str(options.get("disease") or DISEASES[0])
    if policy == "effusion_vs_rest":
        return _one_of_two(values, "Pleural Effusion", uncertain, passes)
    if policy == "no_finding_vs_disease":
        if uncertain != "ignore":
            advice = "leave it out, or choose the policy no_finding_vs_disease_released"
            raise refuse("option uncertain", f"ignore with {policy}", repr(uncertain), advice)
        return _exactly_one(values, disease, passes)
    decided = decide(values, uncertain)
    if policy == "nine_findings":
        decided = decided.rename(columns={"Pleural Effusion": "Effusion"})[list(NINE)]
    elif policy == "no_finding_vs_disease_released":
        decided = decided[["No Finding", disease]]
    return finding_columns(decided, passes)


def decide(values: pd.DataFrame, uncertain: str) -> pd.DataFrame:
    """Return 1, 0 or NaN (left open) from 1, 0, -1 and NaN (blank).

    >>> import pandas as pd
    >>> decide(pd.DataFrame({"Edema": [1.0, -1.0, float("nan")]}), "released_dne")["Edema"].tolist()
    [1.0, 1.0, 0.0]
    """
    counts_as = {"positive": 1.0, "negative": 0.0, "released_linear": 0.0, "ignore": float("nan")}
    decided = values.fillna(0.0)
    for column in decided.columns:
        if uncertain == "released_dne":
            value = float(column in RELEASED_DNE_PRESENT)
        else:
            value = counts_as[uncertain]
        decided[column] = decided[column].where(decided[column] != UNCERTAIN, value)
    return decided


def finding_columns(decided: pd.DataFrame, passes: Mapping[str, pd.Series]) -> Labels:
    """Return a column `label_{finding}` a column of `decided`; `passes` maps filter to kept."""
    table = decided.add_prefix("label_").assign(dropped=first_failed(passes, decided.index))
    return Labels(table, tuple(map(str, decided.columns)), tuple(passes))


def nine_of(present: pd.DataFrame) -> pd.DataFrame:
    """Return the nine findings (1 or 0) of an archive without Lung Opacity, which is derived.

    CROCODILE's task prior calls five of the findings lung opacities; which rule the paper used is
    not published (spec 2.4).
    """
    opacity = present[list(LUNG_OPACITIES)].max(axis=1)
    return present.assign(**{"Lung Opacity": opacity})[list(NINE)]


def first_failed(passes: Mapping[str, pd.Series], index: pd.Index) -> pd.Series:
    """Return the first filter that each image fails, None where it passes all."""
    import pandas as pd

    dropped = pd.Series(None, index=index, dtype=object)
    for name, kept in passes.items():
        dropped = dropped.where(dropped.notna() | kept.astype(bool), name)
    return dropped


def _one_of_two(
    values: pd.DataFrame, finding: str, uncertain: str, passes: Mapping[str, pd.Series]
) -> Labels:
    """Return `label` 1 where `finding` is present and 0 elsewhere."""
    label = decide(values[[finding]], uncertain)[finding]
    if uncertain == "ignore":
        passes = {**passes, f"no uncertain {finding}": label.notna()}
    table = label.astype("Int64").to_frame("label")
    table["dropped"] = first_failed(passes, values.index)
    return Labels(table, ("rest", finding), tuple(passes))


def _exactly_one(values: pd.DataFrame, disease: str, passes: Mapping[str, pd.Series]) -> Labels:
    """Return `label` 0 for No Finding and 1 for `disease`, where exactly one is present."""
    healthy, ill = (values[name] == PRESENT for name in ("No Finding", disease))
    certain = (values["No Finding"] != UNCERTAIN) & (values[disease] != UNCERTAIN)
    passes = {
        **passes,
        f"no uncertain {disease}": certain,
        f"exactly one of No Finding and {disease}": healthy != ill,
    }
    table = ill.astype("Int64").to_frame("label")
    table["dropped"] = first_failed(passes, values.index)
    return Labels(table, ("No Finding", disease), tuple(passes))

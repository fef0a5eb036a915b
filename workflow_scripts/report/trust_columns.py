"""Names of the trust matrix: its columns, and the tables that it reads. Light: rules import it."""

from __future__ import annotations

TABLE = "trust_matrix"
ID, OOD, DROP = "ID", "OOD", "drop"
CALIBRATION_ID, CALIBRATION_OOD = "calibration, ID", "calibration, OOD"
GAP = {"sex": "gap by sex", "age": "gap by age (60)"}
HIDDEN = "gap by the hidden attribute"
DOUBT, CORRUPTION, AGREEMENT = "uncertainty against error", "artefacts", "layer agreement"
COLUMNS = (
    ID, OOD, DROP, CALIBRATION_ID, CALIBRATION_OOD, *GAP.values(), HIDDEN, DOUBT, CORRUPTION,
    AGREEMENT,
)  # fmt: skip
SEGMENTATION, LADDER = "cooperative_training_dice", "cooperative_training_agreement"
QUALITY, CORRELATION = "layer_ensembles_segmentation", "layer_ensembles_correlation"
ID_OOD, CROCODILE = "ssl_transfer_id_ood", "crocodile_id_ood"
FAIRNESS, BACKBONES = "debiased_noise_fairness", "debiased_noise_backbones"
PREDICTED = (CROCODILE, ID_OOD, SEGMENTATION, QUALITY, FAIRNESS, BACKBONES)  # files that are read
LOOKED_UP = (*PREDICTED, LADDER, CORRELATION)  # whose values are copied
FEWEST_PATIENTS = 10  # behind an interval (ours): a bootstrap of fewer covers too rarely

"""What the rules ask of the configuration: which file a result is made from.

Rules hold paths; where a path depends on the configuration, they ask here. Light on purpose: it
is imported each time Snakemake plans.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.code_digest import code_digest
from workflow_scripts.cooperative_training.plan import CooperativeTrainingPlan
from workflow_scripts.crocodile.plan import CrocodilePlan
from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.debiased_noise.plan import DebiasedNoisePlan
from workflow_scripts.layer_ensembles.plan import LayerEnsemblesPlan
from workflow_scripts.report.trust_columns import LOOKED_UP, PREDICTED
from workflow_scripts.report.trust_columns import TABLE as TRUST_MATRIX
from workflow_scripts.ssl_transfer.plan import SslTransferPlan
from workflow_scripts.system_plan import Named, SystemPlan

# every system, in the order of the report; a new one is a line here
SYSTEMS: tuple[type[SystemPlan], ...] = (
    CrocodilePlan,
    SslTransferPlan,
    CooperativeTrainingPlan,
    LayerEnsemblesPlan,
    DebiasedNoisePlan,
)


def as_json(content: object) -> str:
    """Return `content` for a command line, keys in a fixed order.

    >>> as_json({"b": 1, "a": [2]})
    '{"a": [2], "b": 1}'
    """
    return json.dumps(content, sort_keys=True)


class Plan:
    """The proven configuration, asked by name.

    Attributes:
        config: the merged configuration; `settings.check_config` has accepted it.
        results: the folder of results, as configured.
        systems: each system's own plan, by its name.
        chosen: those that `all` runs.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.results: str = config["pathvars"]["results"]
        self.datasets: Mapping[str, Any] = config["datasets"]
        self.checkpoints: Mapping[str, Any] = config["checkpoints"]
        self.phantoms: Mapping[str, Any] = config["phantoms"].get("datasets", {})
        self.experiments: Mapping[str, list[str]] = config.get("experiments", {})
        self.phantom_checkpoints: bool = config["phantoms"].get("checkpoints", False)
        self.systems: dict[str, SystemPlan] = {one.system: one(config) for one in SYSTEMS}
        self.chosen = [self.systems[name] for name in config["systems"] if name in self.systems]

    # Data sets

    def data_folder(self, dataset: str) -> str:
        """Return the folder of a data set's archive: published, or made by a phantom writer."""
        entry = self.datasets[dataset]
        is_made = entry["root"] in self.phantoms or "made_from" in entry
        top = f"{self.results}/data" if is_made else self.config["data_root"]
        return f"{top}/{entry['root']}"

    def dataset_in(self, folder: str) -> str:
        """Return the first data set that is read from `folder`."""
        return next(name for name, one in self.datasets.items() if one["root"] == folder)

    def archive_files(self, dataset: str) -> list[str]:
        """Return what a manifest is made from and Snakemake can watch.

        A published archive does not change and may be absent in a dry run: nothing is watched.
        """
        entry = self.datasets[dataset]
        if "made_from" in entry:
            return [f"{self.data_folder(dataset)}/CORRUPTED.json"]
        if entry["root"] in self.phantoms:
            return [f"{self.data_folder(dataset)}/PHANTOM.json"]
        own_table = Path(self.data_folder(dataset), entry.get("table", ""))
        return [str(own_table)] if own_table.is_file() else []

    def corrupted(self) -> list[str]:
        """Return the folders of the data sets that are made from others."""
        return [entry["root"] for entry in self.datasets.values() if "made_from" in entry]

    def source_of(self, folder: str) -> str:
        """Return the data set that the one in `folder` is made from."""
        return str(self.datasets[self.dataset_in(folder)]["made_from"])

    def volume_stores(self) -> dict[str, str]:
        """Return each segmentation data set with its working grid."""
        return {name: one["grid"] for name, one in self.datasets.items() if "grid" in one}

    def file_cache(self, dataset: str) -> str:
        """Return where it is remembered which files of a folder were checked."""
        entry = self.datasets[dataset]
        top = f"{self.results}/state" if entry["root"] in self.phantoms else "state"
        return f"{top}/file_checks/{entry['root']}.{entry['layout']}.jsonl"

    def bit_depth_argument(self, dataset: str) -> str:
        """Return the words that give the range of a data set's deep gray images, or none."""
        bit_depth = layout_named(self.datasets[dataset]["layout"]).bit_depth
        return "" if bit_depth is None else f"--bit-depth {bit_depth}"

    def layout_code(self, step: str, dataset: str) -> str:
        """Return the digest of a step of `datasets` with the layout it loads by name."""
        layout = self.datasets[dataset]["layout"]
        return code_digest(
            f"workflow_scripts.datasets.{step}", f"workflow_scripts.datasets.{layout}"
        )

    def used_datasets(self) -> list[str]:
        """Return the data sets that the chosen systems name, in the configured order."""
        used = self._used("datasets")
        return [name for name in self.datasets if name in used]

    def sheets(self) -> list[str]:
        """Return a contact sheet of each data set that the systems name."""
        grids = self.volume_stores()
        return [
            f"{self.results}/datasets/{name}/"
            + (f"volumes/{grids[name]}.jpg" if name in grids else "contact_sheet.jpg")
            for name in self.used_datasets()
        ]

    def of_experiment(self, experiment: str, file: str) -> list[str]:
        """Return `file` of each data set of an experiment, below the data set's folder."""
        return [f"{self.results}/datasets/{name}/{file}" for name in self.experiments[experiment]]

    # Checkpoints

    def used_checkpoints(self) -> list[str]:
        """Return the checkpoints that the chosen systems name, in the configured order."""
        used = self._used("checkpoints")
        return [name for name in self.checkpoints if name in used]

    def checkpoint_in(self, file: str) -> str:
        """Return the checkpoint whose published file is `file`."""
        return next(name for name, one in self.checkpoints.items() if one.get("file") == file)

    def source_names(self) -> list[str]:
        """Return the file names of all published weights."""
        return [one["file"] for one in self.checkpoints.values() if "file" in one]

    def source_path(self, checkpoint: str) -> str | None:
        """Return the published weight file, or None for seeded weights."""
        file = self.checkpoints[checkpoint].get("file")
        if file is None:
            return None
        phantoms = f"{self.results}/sources"
        return f"{phantoms if self.phantom_checkpoints else self.config['source_root']}/{file}"

    def downloaded(self, file: str) -> str:
        """Return where the published file `file` belongs."""
        return f"{self.config['source_root']}/{file}"

    def receipt(self, checkpoint: str) -> str | None:
        """Return the proof of a published file; None for phantoms and seeded weights."""
        file = self.checkpoints[checkpoint].get("file")
        is_real = file is not None and not self.phantom_checkpoints
        return f"{self.results}/downloads/{file}.json" if is_real else None

    def receipts(self) -> list[str]:
        """Return the proofs of every published file in the configuration, each once."""
        paths = [self.receipt(name) for name in self.checkpoints]
        return sorted({path for path in paths if path is not None})

    def source_files(self, checkpoint: str) -> list[str]:
        """Return what a conversion waits for: the phantom, or the proof of the published file."""
        path = self.source_path(checkpoint) if self.phantom_checkpoints else None
        waits_for = path or self.receipt(checkpoint)
        return [waits_for] if waits_for else []

    def source_argument(self, checkpoint: str) -> str:
        """Return the words that name the weight file and its proof."""
        path, receipt = self.source_path(checkpoint), self.receipt(checkpoint)
        words = [] if path is None else ["--source", path]
        return shlex.join(words if receipt is None else [*words, "--receipt", receipt])

    def format_code(self, step: str, checkpoint: str) -> str:
        """Return the digest of a step of `checkpoints` with the format it loads by name."""
        return code_digest(
            f"workflow_scripts.checkpoints.{step}",
            f"workflow_scripts.checkpoints.formats.{self.checkpoints[checkpoint]['format']}",
        )

    # Systems

    def names(self) -> Iterator[tuple[str, Named]]:
        """Yield every name that a system's section uses, with the system."""
        for system, one in self.systems.items():
            yield from ((system, named) for named in one.names())

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return each table that the rule `table` makes, with what lists its predictions."""
        return {name: runs for one in self.systems.values() for name, runs in one.tables().items()}

    def _used(self, kind: str) -> set[str]:
        """Return the names of one kind that the chosen systems use."""
        return {named.name for one in self.chosen for named in one.names() if named.kind == kind}

    def chosen_tables(self) -> list[str]:
        """Return the tables of the chosen systems: what ledger and overview show."""
        return [name for one in self.chosen for name in (*one.tables(), *one.other_tables())]

    def trust_tables(self) -> list[str]:
        """Return the chosen tables that the trust matrix looks up."""
        return [name for name in self.chosen_tables() if name in LOOKED_UP]

    def trust_predictions(self) -> list[str]:
        """Return the predictions that the trust matrix reads; none: there is no matrix."""
        tables = self.tables()
        chosen = [name for name in self.trust_tables() if name in PREDICTED]
        return [file for name in chosen for file in tables[name]()]

    def matrices(self) -> list[str]:
        """Return the trust matrix where a chosen system has a place in it."""
        return [TRUST_MATRIX] if self.trust_predictions() else []

    def all_tables(self) -> list[str]:
        """Return the tables of all systems, whichever rule makes them."""
        return [
            name for one in self.systems.values() for name in (*one.tables(), *one.other_tables())
        ]

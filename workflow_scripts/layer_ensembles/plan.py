"""Which files the section `layer_ensembles` of the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.layer_ensembles.protocols import OPTIONS
from workflow_scripts.system_plan import Conflict, Named, SystemPlan

RUN = "{protocol}/{dataset}/{method}/seed{seed}"
CELL = RUN + "/skip{skip}"
TRAINED, SWEPT = (
    "layer_ensembles",
    ("deep_ensembles",),
)  # the sweep's rows, and what it is set beside
CORRELATED = ("multi_head", "deep_ensembles", "layer_ensembles")  # the plain network has no spread


class LayerEnsemblesPlan(SystemPlan):
    """The runs of the Layer Ensembles paper."""

    system = "layer_ensembles"

    def names(self) -> Iterator[Named]:
        """Yield the data sets."""
        for index, name in enumerate(self.section["datasets"]):
            yield Named(("datasets", str(index)), name, "datasets")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield data sets that cannot be trained on, and a choice that leaves no run."""
        wrong = list(self._dataset_conflicts())
        yield from wrong
        if not wrong and not self.segmentation_cells():
            expected = "a protocol that per_dataset has for one of the data sets"
            found = ", ".join(self.section["protocols"])
            yield Conflict(("protocols",), expected, found, "name a protocol of the data sets")

    def _dataset_conflicts(self) -> Iterator[Conflict]:
        for index, name in enumerate(self.section["datasets"]):
            keys = ("datasets", str(index))
            if name not in self.section["per_dataset"]:
                step = f"add per_dataset.{name} with reduction, skip, protocols, dice_thresholds"
                yield Conflict(keys, "a data set with an entry in per_dataset", repr(name), step)
            if "grid" not in self.config["datasets"].get(name, {"grid": ""}):
                step = "name a data set with masks, and give it a grid"
                yield Conflict(keys, "a data set with a grid of voxels", repr(name), step)

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the three tables, those that the chosen methods have a row for."""
        every = {
            "layer_ensembles_segmentation": self.segmentation_cells,
            "layer_ensembles_correlation": self.correlation_cells,
            "layer_ensembles_skips": self.skip_cells,
        }
        return {name: cells for name, cells in every.items() if cells()}

    def settings(self, dataset: str) -> dict[str, Any]:
        """Return the settings of a training, with what the data set changes."""
        return {**self.section["training"], **self.section["per_dataset"][dataset]["training"]}

    def reduction(self, dataset: str) -> int:
        """Return by how much images are made smaller."""
        factor: int = self.section["per_dataset"][dataset]["reduction"]
        return factor

    def skip(self, dataset: str, method: str) -> int:
        """Return how many heads the tables leave out."""
        skip: int = self.section["per_dataset"][dataset]["skip"]
        return skip if method == TRAINED else 0

    def combinations(self, protocol: str) -> list[str]:
        """Return every combination that a protocol's numbers hold."""
        options = OPTIONS[protocol]  # type: ignore[index]  # the schema knows the protocols
        wanted = [*self.section["combinations"], options.combine_heads, options.combine_others]
        return sorted(set(wanted))

    def grid_files(self, dataset: str) -> dict[str, str]:
        """Return the files of a data set that a step reads, by name."""
        folder = f"{self.results}/datasets/{dataset}"
        grid = f"{folder}/volumes/{self.config['datasets'][dataset]['grid']}"
        return {
            "images": f"{grid}.images.npy",
            "masks": f"{grid}.masks.npy",
            "index": f"{grid}.parquet",
            "manifest": f"{folder}/manifest.parquet",
            "card": f"{folder}/card.json",
            "leak_free": f"{folder}/leak_free.json",
        }

    def segmentation_cells(self) -> list[str]:
        """Return the predictions behind Table 1."""
        return self._cells("layer_ensembles_segmentation", self.section["methods"])

    def correlation_cells(self) -> list[str]:
        """Return the predictions behind Table 2."""
        methods = [name for name in self.section["methods"] if name in CORRELATED]
        return self._cells("layer_ensembles_correlation", methods)

    def skip_cells(self) -> list[str]:
        """Return the predictions behind the sweep over skipped heads."""
        table = "layer_ensembles_skips"
        methods = self.section["methods"]
        swept = [
            self._cell(table, run, skip)
            for run in self.runs([name for name in methods if name == TRAINED])
            for skip in self.section["skips"]
        ]
        return swept + self._cells(table, [name for name in methods if name in SWEPT])

    def _cells(self, table: str, methods: list[str]) -> list[str]:
        return [
            self._cell(table, run, self.skip(run["dataset"], run["method"]))
            for run in self.runs(methods)
        ]

    def _cell(self, table: str, run: dict[str, Any], skip: int) -> str:
        name = CELL.format(skip=skip, **run)
        return f"{self.results}/layer_ensembles/cells/{table}/{name}/predictions.parquet"

    def runs(self, methods: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the wildcards of the runs of some methods; hearts have no released protocol."""
        for protocol in self.section["protocols"]:
            for dataset in self.section["datasets"]:
                if protocol not in self.section["per_dataset"][dataset]["protocols"]:
                    continue
                for method in methods:
                    run = {"protocol": protocol, "dataset": dataset, "method": method}
                    yield from ({**run, "seed": seed} for seed in self.section["seeds"])

    def figures(self) -> list[str]:
        """Return the figures: heat maps of the first seed, quality control, skipped heads."""
        first = self.section["seeds"][0]
        maps = [
            "heat_maps_{dataset}_{method}_{protocol}_{seed}".format(**run)
            for run in self.runs([name for name in self.section["methods"] if name == TRAINED])
            if run["seed"] == first
        ]
        names = [*maps, *["quality_control"] * bool(self.correlation_cells())]
        names += ["skips"] * (TRAINED in self.section["methods"])
        return [f"{self.results}/figures/layer_ensembles_{name}.png" for name in names]

    def phantom_words(self, dataset: str) -> str:
        """Return the option that marks a figure of synthetic patients, or nothing."""
        root = self.config["datasets"][dataset]["root"]
        return "--phantom" if root in self.config["phantoms"].get("datasets", {}) else ""

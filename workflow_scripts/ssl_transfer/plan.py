"""Which files the section `ssl_transfer` of the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.problems import InputError, nearest
from workflow_scripts.ssl_transfer.analysis_plan import AnalysisPlan
from workflow_scripts.ssl_transfer.columns import Column, column_conflicts, columns_of
from workflow_scripts.ssl_transfer.protocols import (
    FEW_SHOT,
    LINEAR,
    FewShotOptions,
    LinearOptions,
    Protocol,
)
from workflow_scripts.ssl_transfer.training_plan import TrainingPlan
from workflow_scripts.system_plan import Config, Conflict, Named, SystemPlan

FEATURES = "{checkpoint}/{dataset}/{geometry}-{normalisation}"
FEW_SHOT_RUN = "{protocol}/{checkpoint}/{dataset}/{n_way}way-{n_support}shot/seed{seed}"
LINEAR_RUN = "{protocol}/{checkpoint}/{dataset}/seed{seed}"


class SslTransferPlan(SystemPlan):
    """The runs of the SSL transfer paper."""

    system = "ssl_transfer"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.training = TrainingPlan(config)
        self.analysis = AnalysisPlan(config)

    def names(self) -> Iterator[Named]:
        """Yield the checkpoints, and the data sets of each step."""
        for index, name in enumerate(self.section["checkpoints"]):
            yield Named(("checkpoints", str(index)), name, "checkpoints")
        for step in ("few_shot", "linear"):
            for index, column in enumerate(self.section[step]["columns"]):
                keys = (step, "columns", str(index), "dataset")
                yield Named(keys, column["dataset"], "datasets")
        yield from self.training.names()
        yield from self.analysis.names()

    def conflicts(self) -> Iterator[Conflict]:
        """Yield columns that repeat or that a protocol cannot run, and numbers that do not fit."""
        yield from column_conflicts(self.section)
        known = self.config["checkpoints"]
        for name in self.section.get("analysis", {}).get("imagenet_top1", {}):
            if name not in known:  # it would be no point of any correlation, silently
                keys = ("analysis", "imagenet_top1", name)
                yield Conflict(keys, "a name of checkpoints", repr(name), nearest(name, known))
        for step in ("few_shot", "linear", "finetune"):
            for index, column in enumerate(self.section[step]["columns"]):
                if "released" in column.get("protocols", self.section[step]["protocols"]):
                    yield from self._released_conflicts((step, "columns", str(index)), column)

    def _released_conflicts(self, where: tuple[str, ...], column: Column) -> Iterator[Conflict]:
        """Yield a data set that the released code never split, such as a user's own."""
        entry = self.config["datasets"].get(column["dataset"])
        try:
            is_released = entry is None or layout_named(entry["layout"]).has_released_split
        except InputError:  # the data set's own entry is refused already
            return
        if not is_released:
            expected = "a data set of the released code for protocol `released`"
            found = f"{column['dataset']}, of layout {entry['layout']}"
            yield Conflict(where, expected, found, "write `protocols: [corrected]` in the column")

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the tables of class scores."""
        return {
            "ssl_transfer_few_shot": self.few_shot_runs,
            "ssl_transfer_linear": self.linear_runs,
            **self.training.tables(),
            **self.analysis.tables(),
        }

    def other_tables(self) -> list[str]:
        """Return the tables made from other tables."""
        return self.analysis.other_tables()

    def few_shot_features(self, protocol: Protocol, checkpoint: str, dataset: str) -> str:
        """Return the features of a few-shot run; the released code squashes some data sets."""
        options = FEW_SHOT[protocol]
        geometry = options.geometry
        if geometry == "by_dataset":
            layout = layout_named(self.config["datasets"][dataset]["layout"])
            geometry = layout.geometry_released or "short224"
        return self._features(checkpoint, dataset, geometry, options)

    def linear_features(self, protocol: Protocol, checkpoint: str, dataset: str) -> str:
        """Return the features of a linear probe."""
        options = LINEAR[protocol]
        return self._features(checkpoint, dataset, options.geometry, options)

    def _features(
        self, checkpoint: str, dataset: str, geometry: str, options: FewShotOptions | LinearOptions
    ) -> str:
        name = FEATURES.format(
            checkpoint=checkpoint,
            dataset=dataset,
            geometry=geometry,
            normalisation=options.normalisation,
        )
        return f"{self.results}/ssl_transfer/features/{name}.npz"

    def few_shot_runs(self) -> list[str]:
        """Return the predictions behind the few-shot table."""
        n_support = self.section["few_shot"]["n_support"]
        runs = self._runs("few_shot")
        return [self._predictions("few_shot", FEW_SHOT_RUN, n_support=n_support, **r) for r in runs]

    def linear_column(self, dataset: str) -> str:
        """Return what the table calls a data set of the linear evaluation."""
        columns = self.section["linear"]["columns"]
        return next((c.get("column", dataset) for c in columns if c["dataset"] == dataset), dataset)

    def linear_runs(self) -> list[str]:
        """Return the predictions behind the linear table."""
        return [self._predictions("linear", LINEAR_RUN, **run) for run in self._runs("linear")]

    def _runs(self, stage: str) -> Iterator[dict[str, Any]]:
        """Yield the wildcards of a stage's runs: protocol x checkpoint x column x seed."""
        step = self.section[stage]
        for protocol in step["protocols"]:
            for checkpoint in self.section["checkpoints"]:
                for column in columns_of(step, protocol):
                    for seed in step["seeds"]:
                        yield dict(protocol=protocol, checkpoint=checkpoint, seed=seed, **column)

    def _predictions(self, stage: str, run: str, **wildcards: object) -> str:
        return f"{self.results}/ssl_transfer/{stage}/{run.format(**wildcards)}/predictions.parquet"

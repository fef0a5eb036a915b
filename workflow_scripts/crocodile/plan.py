"""Which files the section `crocodile` of the configuration asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.system_plan import Conflict, Named, SystemPlan

RUN = "{protocol}/{variant}/seed{seed}"
ROLES = ("ID", "OOD")


class CrocodilePlan(SystemPlan):
    """The runs of CROCODILE: protocol x variant x seed, each tested in and out of distribution."""

    system = "crocodile"

    def names(self) -> Iterator[Named]:
        """Yield the data sets, their common certificate, and the checkpoint of the trunk."""
        for key in ("sources", "ood"):
            for index, name in enumerate(self.section[key]):
                yield Named((key, str(index)), name, "datasets")
        yield Named(("experiment",), self.section["experiment"], "experiments")
        if self.checkpoint:
            yield Named(("network", "checkpoint"), self.checkpoint, "checkpoints")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield data sets that the leak certificate would not cover as they are used.

        All images of the OOD data sets are tested, so that all must be `test` to the certificate.
        """
        experiment, datasets = self.section["experiment"], self.config["datasets"]
        members = self.config.get("experiments", {}).get(experiment, datasets)
        for key in ("sources", "ood"):
            for index, name in enumerate(self.section[key]):
                if name in datasets and name not in members:
                    expected = f"a data set that experiments.{experiment} certifies"
                    step = f"add it to experiments.{experiment}"
                    yield Conflict((key, str(index)), expected, repr(name), step)
        for index, name in enumerate(self.section["ood"]):
            policy = datasets.get(name, {}).get("split_policy") or "none"
            if name in datasets and policy != "test_only":
                expected = "a data set of which every image is certified as test"
                step = f"set split_policy: test_only in datasets.{name}"
                found = f"{name!r} with split_policy: {policy}"
                yield Conflict(("ood", str(index)), expected, found, step)

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return the only table."""
        return {"crocodile_id_ood": self.predictions}

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint of the trunks; None for the small trunk."""
        network = self.section["network"]
        return str(network["checkpoint"]) if network["trunk"] == "resnet" else None

    @property
    def geometry(self) -> str:
        """The preprocessing of the images."""
        return f"stretch{self.section['network']['image_size']}"

    @property
    def has_phantoms(self) -> bool:
        """Whether any of its data sets is made of synthetic patients."""
        made = self.config["phantoms"].get("datasets", {})
        names = [*self.datasets_of("ID"), *self.datasets_of("OOD")]
        return any(self.config["datasets"][name]["root"] in made for name in names)

    def datasets_of(self, role: str) -> list[str]:
        """Return the data sets of a role: the sources (ID), or the others (OOD)."""
        return list(self.section["sources" if role == "ID" else "ood"])

    def files(self, role: str, file: str) -> list[str]:
        """Return a file of each data set of a role, below the data set's folder."""
        return [f"{self.results}/datasets/{name}/{file}" for name in self.datasets_of(role)]

    def backbone_files(self) -> dict[str, str]:
        """Return what the trunks are made from, by the name of the argument."""
        if self.checkpoint is None:
            return {}
        folder = f"{self.results}/checkpoints/{self.checkpoint}"
        return {
            "backbone": f"{folder}/backbone.safetensors",
            "certificate": f"{folder}/certificate.json",
        }

    def backbone_arguments(self) -> str:
        """Return the words that name the trunks' weights, or none."""
        return " ".join(f"--{name} {path}" for name, path in self.backbone_files().items())

    def network(self) -> str:
        """Return the size of the network as JSON."""
        shape = {k: v for k, v in self.section["network"].items() if k != "checkpoint"}
        return json.dumps(shape, sort_keys=True)

    def training(self, variant: str) -> str:
        """Return length and speed of a variant's training as JSON."""
        changed = self.section["changes"].get(variant, {}).get("training", {})
        return json.dumps({**self.section["training"], **changed}, sort_keys=True)

    def weights(self, protocol: str, variant: str) -> str:
        """Return the factors of the loss terms of a variant as JSON."""
        changed = self.section["changes"].get(variant, {}).get("loss_weights", {})
        return json.dumps({**self.section["loss_weights"][protocol], **changed}, sort_keys=True)

    def predictions(self) -> list[str]:
        """Return the predictions behind the table."""
        return [
            f"{self.results}/crocodile/test/{RUN.format(**run)}/{role}/predictions.parquet"
            for run in self.runs()
            for role in ROLES
        ]

    def maps(self) -> list[str]:
        """Return the causality maps of the variants that have one, over the ID test images."""
        return [
            f"{self.results}/crocodile/test/{RUN.format(**run)}/ID/causality.csv"
            for run in self.runs()
            if not VARIANTS[run["variant"]].is_plain
        ]

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the wildcards of every training."""
        for protocol in self.section["protocols"]:
            for variant in self.section["variants"]:
                for seed in self.section["seeds"]:
                    yield {"protocol": protocol, "variant": variant, "seed": seed}

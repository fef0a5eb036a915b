"""Which files the section `debiased_noise` of the configuration asks for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from workflow_scripts.debiased_noise.protocols import ATTRIBUTE, HEAD, WITHOUT_EDIT, Protocol
from workflow_scripts.problems import nearest, refuse
from workflow_scripts.system_plan import Named, SystemPlan

TABLE = "debiased_noise_{table}"
EDIT = "{protocol}/{checkpoint}/{dataset}/{method}/seed{seed}"
HEAD_RUN = "{protocol}/{read_out}/{dataset}/{method}/seed{seed}"
EDITED = "{protocol}-{edit_checkpoint}-{method}-seed{seed}"  # what an edited embedding is of
EDITED_PARTS = re.compile(r"(released|corrected)-(.+)-([a-z_]+)-seed([0-9]+)")
EDIT_FIGURE = "{protocol}-{checkpoint}-{dataset}-{method}-seed{seed}"
SIDE_PX = 224  # of a checkpoint that says nothing else
CONTROL = "gaussian_"  # begins the names of drawn, not learned edits


class Run(NamedTuple):
    """The wildcards of one trained disease head."""

    protocol: Protocol
    read_out: str
    dataset: str
    method: str
    seed: int


class DebiasedNoisePlan(SystemPlan):
    """The runs of the debiased noise paper."""

    system = "debiased_noise"

    def names(self) -> Iterator[Named]:
        """Yield the checkpoints of each read-out in use, and the data sets of each run.

        Raises:
            InputError: a read-out that is neither described nor a checkpoint, or whose edit and
                head take images of different sizes; a head in two tables.
        """
        self._require_read_outs()
        self._require_one_table()
        for name in self._used_read_outs():
            if name in self.section["read_outs"]:
                for role in ("edit", "head"):
                    keys = ("read_outs", name, role)
                    yield Named(keys, self.checkpoint(role, name), "checkpoints")
            else:
                yield Named(("runs", "read_outs"), name, "checkpoints")
        for index, run in enumerate(self.section["runs"]):
            for place, dataset in enumerate(run["datasets"]):
                yield Named(("runs", str(index), "datasets", str(place)), dataset, "datasets")

    def _used_read_outs(self) -> list[str]:
        """Return the read-outs of all runs, each once."""
        used = (name for run in self.section["runs"] for name in run["read_outs"])
        return list(dict.fromkeys(used))

    def _require_read_outs(self) -> None:
        """Refuse read-outs that do not exist, and edits of another size than the head's images."""
        known = (*self.section["read_outs"], *self.config["checkpoints"])
        where = "config key debiased_noise.runs"
        for name in self._used_read_outs():
            if name not in known:
                expected = "names of read_outs, or of checkpoints"
                raise refuse(where, expected, repr(name), nearest(name, known))
            sizes = {role: self.geometry(self.checkpoint(role, name)) for role in ("edit", "head")}
            if len(set(sizes.values())) > 1:
                advice = "choose two checkpoints of one size: the edit is added to both's images"
                raise refuse(f"{where} {name}", "one size", str(sizes), advice)

    def _require_one_table(self) -> None:
        """Refuse a head that stands in two tables: its file says which one it is for."""
        tables: dict[Run, str] = {}
        for table, run in self._runs():
            if tables.setdefault(run, table) != table:
                found = f"{tables[run]} and {table}"
                advice = "leave it out of one of the runs"
                raise refuse(f"config key debiased_noise.runs, {run}", "one table", found, advice)

    def tables(self) -> dict[str, Callable[[], list[str]]]:
        """Return each table with what lists its predictions."""
        names = self._table_names()
        tables: dict[str, Callable[[], list[str]]]
        tables = {TABLE.format(table=name): partial(self.predictions, name) for name in names}
        if "fairness" in names:
            tables[TABLE.format(table="course")] = self.courses
        return tables

    def _table_names(self) -> list[str]:
        """Return the tables that runs name, each once."""
        return list(dict.fromkeys(table for table, _ in self._runs()))

    def _runs(self) -> Iterator[tuple[str, Run]]:
        """Yield every head that is trained, in the order of its table, with that table's name."""
        for run in self.section["runs"]:
            for read_out in run["read_outs"]:
                for dataset in run["datasets"]:
                    for method in run["methods"]:
                        for seed in run["seeds"]:
                            one = Run(run["protocol"], read_out, dataset, method, seed)
                            yield run.get("table", "fairness"), one

    def predictions(self, table: str) -> list[str]:
        """Return the predictions behind a table, each once."""
        top = f"{self.results}/debiased_noise/heads"
        chosen = dict.fromkeys(run for name, run in self._runs() if name == table)
        return [f"{top}/{HEAD_RUN.format(**run._asdict())}/predictions.parquet" for run in chosen]

    def courses(self) -> list[str]:
        """Return the predictions at some epochs, of the heads in the table of fairness."""
        paths = self.predictions("fairness")
        return [path.replace("predictions.parquet", "course.parquet") for path in paths]

    def figures(self) -> list[str]:
        """Return the pictures of the learned edits, one seed of each, and a plane a table."""
        names: dict[tuple[str, ...], str] = {}
        for _, run in self._runs():
            if run.method not in WITHOUT_EDIT and not run.method.startswith(CONTROL):
                checkpoint = self.checkpoint("edit", run.read_out)
                place = (run.protocol, checkpoint, run.dataset, run.method)
                names.setdefault(place, EDIT_FIGURE.format(checkpoint=checkpoint, **run._asdict()))
        top = f"{self.results}/figures"
        planes = [f"{top}/{TABLE.format(table=name)}_plane.png" for name in self._table_names()]
        return [f"{top}/debiased_noise_edit-{name}.png" for name in names.values()] + planes

    # What the rules ask

    def checkpoint(self, role: str, read_out: str) -> str:
        """Return the checkpoint that edits or heads of a read-out are trained on.

        A checkpoint's own name is a read-out too: both are trained on it.
        """
        described = self.section["read_outs"].get(read_out)
        return str(described[role]) if described else read_out

    def geometry(self, checkpoint: str) -> str:
        """Return how images are brought to the size that a checkpoint takes (spec 3.1)."""
        described = self.config["checkpoints"].get(checkpoint, {})  # `settings` finds the unknown
        return f"exact{described.get('size_px', SIDE_PX)}"

    def column_word(self, dataset: str) -> str:
        """Return the words that name a data set's column, where it has another than the disease."""
        name = self.section.get("columns", {}).get(dataset)
        return f"--column {shlex.quote(name)}" if name else ""

    def table_of(self, wildcards: Any) -> str:  # noqa: ANN401, Snakemake's own class
        """Return the table that a head's predictions are for."""
        w = wildcards
        run = Run(w.protocol, w.read_out, w.dataset, w.method, int(w.seed))
        found = next((table for table, one in self._runs() if one == run), "fairness")
        return TABLE.format(table=found)

    def attribute(self, dataset: str) -> str:
        """Return what a data set's training images are biased by; the released files: sex."""
        split: dict[str, Any] = self.config["datasets"][dataset].get("biased_split") or {}
        return str(split.get("attribute", "sex"))

    def edit(self, protocol: str, checkpoint: str, dataset: str, method: str, seed: str) -> str:
        """Return the file of an edit."""
        name = EDIT.format(
            protocol=protocol, checkpoint=checkpoint, dataset=dataset, method=method, seed=seed
        )
        return f"{self.results}/debiased_noise/edits/{name}/noise_edit.safetensors"

    def edit_of_embeddings(self, wildcards: Any) -> dict[str, str]:  # noqa: ANN401
        """Return the edit that embeddings are of, by the name of their file; or nothing."""
        parts = EDITED_PARTS.fullmatch(wildcards.edited)
        if parts is None:
            return {}
        protocol, checkpoint, method, seed = parts.groups()
        return {"edit": self.edit(protocol, checkpoint, wildcards.dataset, method, seed)}

    def edit_of_run(self, wildcards: Any) -> list[str]:  # noqa: ANN401
        """Return the edit behind a head, or none."""
        w = wildcards
        if w.method in WITHOUT_EDIT:
            return []
        checkpoint = self.checkpoint("edit", w.read_out)
        return [self.edit(w.protocol, checkpoint, w.dataset, w.method, w.seed)]

    def edited(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return what the embeddings of a head are of: an edit's name, or `unedited`."""
        w = wildcards
        if w.method in WITHOUT_EDIT:
            return "unedited"
        return EDITED.format(
            protocol=w.protocol, method=w.method, seed=w.seed,
            edit_checkpoint=self.checkpoint("edit", w.read_out),
        )  # fmt: skip

    def edit_word(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the edit behind a head as words of a command line."""
        return "".join(f"--edit {path}" for path in self.edit_of_run(wildcards))

    def embeddings(self, wildcards: Any, role: str) -> str:  # noqa: ANN401
        """Return the embeddings behind a head, of the checkpoint in a role."""
        checkpoint = self.checkpoint(role, wildcards.read_out)
        top = f"{self.results}/debiased_noise/embeddings"
        return f"{top}/{checkpoint}/{wildcards.dataset}/{self.edited(wildcards)}.npz"

    def frozen(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the attribute classifier that the edit of a head was trained against."""
        w = wildcards
        top = f"{self.results}/debiased_noise/attribute/{w.protocol}"
        place = f"{self.checkpoint('edit', w.read_out)}/{w.dataset}/seed{w.seed}"
        return f"{top}/{place}/attribute_classifier.safetensors"

    def retrained(self, wildcards: Any) -> str:  # noqa: ANN401
        """Return the attribute classifier trained anew on the embeddings of a head."""
        w = wildcards
        top = f"{self.results}/debiased_noise/retrained/{self.checkpoint('head', w.read_out)}"
        return f"{top}/{w.dataset}/{self.edited(w)}/seed{w.seed}/attribute_classifier.safetensors"

    def live_files(
        self, step: str, protocol: Protocol, checkpoint: str, dataset: str
    ) -> dict[str, str]:
        """Return the network and the images that a step with stochastic depth reads, or nothing."""
        options = ATTRIBUTE[protocol] if step == "attribute" else HEAD[protocol]
        if options.stochastic_depth == 0:
            return {}
        backbone = f"{self.results}/checkpoints/{checkpoint}"
        return {
            "backbone": f"{backbone}/backbone.safetensors",
            "certificate": f"{backbone}/certificate.json",
            **self.images(checkpoint, dataset),
        }

    def images(self, checkpoint: str, dataset: str) -> dict[str, str]:
        """Return the store and its index, in the size that a checkpoint takes."""
        store = f"{self.results}/datasets/{dataset}/store/{self.geometry(checkpoint)}"
        return {"store": f"{store}.npy", "index": f"{store}.parquet"}

    def live_words(self, step: str, protocol: Protocol, checkpoint: str, dataset: str) -> str:
        """Return the same files as words of a command line."""
        files = self.live_files(step, protocol, checkpoint, dataset)
        return " ".join(f"--{name} {path}" for name, path in files.items())

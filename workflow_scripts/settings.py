"""The configuration: proven before anything runs, and asked by the rules.

`config.yaml` and what is merged on top of it is checked against the schema, then for names that
must fit each other. Every problem is reported at once, with file, key and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow_scripts.checkpoints.options import options_of
from workflow_scripts.datasets.layout import check_options, layout_named
from workflow_scripts.plan import Plan
from workflow_scripts.problems import InputError, Problem, nearest

Config = Mapping[str, Any]

MAIN_SCHEMA = "config.schema.yaml"
DEFAULT_RESULTS = "results"  # where real results go; phantoms must not


def read_schema(folder: Path) -> Config:
    """Return the JSON schema of the whole configuration.

    Each system's section is described by a file of its own, `{system}.schema.yaml`, and required.

    Args:
        folder: of the schemas; the main one is `config.schema.yaml`.
    """
    import yaml

    main: dict[str, Any] = yaml.safe_load((folder / MAIN_SCHEMA).read_text(encoding="utf-8"))
    for file in sorted(folder.glob("*.schema.yaml")):
        if file.name != MAIN_SCHEMA:
            system = file.name.removesuffix(".schema.yaml")
            main["properties"][system] = yaml.safe_load(file.read_text(encoding="utf-8"))
            main["required"].append(system)
    return main


def check_config(config: Config, schema: Config, files: Sequence[Path] = ()) -> None:
    """Refuse a configuration that does not fit.

    Args:
        config: the merged configuration.
        schema: the JSON schema of the whole configuration.
        files: the files that were merged, first to last; used to say where a bad key stands.

    Raises:
        InputError: with every problem found.
    """
    problems = list(_schema_problems(config, schema, files))
    if not problems:
        problems = [*_entry_problems(config, files), *_name_problems(config, files)]
    if problems:
        raise InputError(problems)


def _schema_problems(config: Config, schema: Config, files: Sequence[Path]) -> Iterator[Problem]:
    from jsonschema import Draft202012Validator  # 0.2 s: only when a workflow starts

    errors = Draft202012Validator(schema).iter_errors(config)
    for error in sorted(errors, key=lambda one: [str(part) for part in one.absolute_path]):
        keys = [str(part) for part in error.absolute_path]
        if error.validator == "additionalProperties":
            valid = error.schema.get("properties", {})
            for name in sorted(set(error.instance) - set(valid)):
                yield Problem(
                    _where(files, [*keys, name]),
                    "a known key",
                    f"{name!r}",
                    nearest(name, valid),
                )
        else:
            found = repr(error.instance)
            yield Problem(
                _where(files, keys),
                _expected(error.validator, error.validator_value),
                found if len(found) <= 80 else found[:77] + "...",
                "correct this value; its meaning stands on its line in config.yaml",
            )


def _entry_problems(config: Config, files: Sequence[Path]) -> Iterator[Problem]:
    """Ask each data set's layout, and the checkpoints' options, what they think of an entry."""
    for kind, check in (("datasets", _check_dataset), ("checkpoints", options_of)):
        for name, entry in config[kind].items():
            try:
                check(entry)
            except InputError as error:
                where = _where(files, [kind, name])
                for problem in error.problems:
                    yield replace(problem, where=f"{where}: {problem.where}")


def _check_dataset(entry: Config) -> None:
    check_options(layout_named(entry["layout"]), entry)


def _expected(validator: str, value: object) -> str:
    """Say in words what a schema keyword asks for."""
    words = {
        "type": f"a value of type {value}",
        "enum": f"one of {', '.join(map(str, value)) if isinstance(value, list) else value}",
        "minimum": f"at least {value}",
        "maximum": f"at most {value}",
        "required": f"the keys {value}",
        "minItems": f"a list of at least {value}",
        "uniqueItems": "a list without repeats",
    }
    return words.get(validator, f"{validator}: {value}")


def _name_problems(config: Config, files: Sequence[Path]) -> Iterator[Problem]:
    """Find names that point nowhere, and phantoms among real results."""
    plan = Plan(config)
    for index, name in enumerate(config["systems"]):
        if name not in plan.systems:
            yield _unknown(files, ["systems", str(index)], name, plan.systems)
    for system, named in plan.names():
        if named.name not in config.get(named.kind, {}):
            keys = [system, *named.keys]
            yield _unknown(files, keys, named.name, config.get(named.kind, {}))
    for system, one in plan.systems.items():
        for wrong in one.conflicts():
            where = _where(files, [system, *wrong.keys])
            yield Problem(where, wrong.expected, wrong.found, wrong.next_step)
    for name, entry in config["datasets"].items():
        source = entry.get("made_from")
        if source is not None and source not in config["datasets"]:
            yield _unknown(files, ["datasets", name, "made_from"], source, config["datasets"])
    for experiment, names in config.get("experiments", {}).items():
        for index, name in enumerate(names):
            if name not in config["datasets"]:
                keys = ["experiments", experiment, str(index)]
                yield _unknown(files, keys, name, config["datasets"])
    roots = {entry["root"] for entry in config["datasets"].values()}
    for root in config["phantoms"].get("datasets", {}):
        if root not in roots:
            yield _unknown(files, ["phantoms", "datasets", root], root, roots)
    phantoms = config["phantoms"]
    makes_phantoms = bool(phantoms.get("datasets")) or bool(phantoms.get("checkpoints"))
    if makes_phantoms and Path(config["pathvars"]["results"]) == Path(DEFAULT_RESULTS):
        yield Problem(
            _where(files, ["phantoms"]),
            "phantoms only beside a results folder of their own",
            f"pathvars.results: {DEFAULT_RESULTS}",
            "set pathvars.results to results/demo or another folder",
        )


def _unknown(files: Sequence[Path], keys: list[str], name: str, valid: Iterable[str]) -> Problem:
    return Problem(
        _where(files, keys), "a name that is configured", f"{name!r}", nearest(name, valid)
    )


def _where(files: Sequence[Path], keys: list[str]) -> str:
    """Name the last file that holds the key path, and the path."""
    path = ".".join(keys) or "(top)"
    for file in reversed(files):
        if _holds(_load(file), keys):
            return f"{file} key {path}"
    return f"{files[-1] if files else 'configuration'} key {path}"


def _load(file: Path) -> object:
    import yaml

    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None


def _holds(content: object, keys: list[str]) -> bool:
    for key in keys:
        if isinstance(content, Mapping) and key in content:
            content = content[key]
        elif isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        else:
            return False
    return True

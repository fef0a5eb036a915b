"""The identity of the code behind a result: a hash over a module and all of ours it imports.

Rules pass it as a parameter, so that editing a step, or anything the step imports, reruns it, and
touching or reverting a file does not. A data file of the package (such as lists of patients) counts
as part of the module beside it that names it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "workflow_scripts"
DATA_FILE = re.compile(r"\"(\w+\.(?:json|csv|tsv|yaml|npz))\"")


def code_digest(*modules: str) -> str:
    """Return 12 hexadecimal digits that change when the code of `modules` does.

    Args:
        modules: dotted names such as `workflow_scripts.ssl_transfer.few_shot`. What is chosen at
            run time (a layout, a source format) is not seen from the imports: name it as well.

    Raises:
        FileNotFoundError: if a module does not exist.
    """
    digest = hashlib.sha256()
    for name in sorted(set().union(*(_reached(module) for module in modules))):
        digest.update(name.encode() + b"\0" + _file_of(name).read_bytes())
        for data in sorted(_data_of(name)):
            digest.update(data.encode() + b"\0" + _file_of(name).with_name(data).read_bytes())
    return digest.hexdigest()[:12]


@cache
def _reached(module: str) -> frozenset[str]:
    """Return `module` and every module of ours it imports, directly or not."""
    if not _file_of(module).exists():
        raise FileNotFoundError(f"no module {module} below {ROOT}")
    found: set[str] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= _imports(name) - found
    return frozenset(found)


@cache
def _data_of(module: str) -> frozenset[str]:
    """Return the names of the files beside `module` that its text names; no Python files."""
    file = _file_of(module)
    named = set(DATA_FILE.findall(file.read_text(encoding="utf-8")))
    return frozenset(name for name in named if file.with_name(name).is_file())


@cache
def _imports(module: str) -> frozenset[str]:
    tree = ast.parse(_file_of(module).read_text(encoding="utf-8"))
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in named if name.split(".")[0] == PACKAGE and _file_of(name).exists()}
    return frozenset(ours)


def _file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

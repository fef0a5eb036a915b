"""What a long step has finished, kept beside its output, so that a killed step goes on from there.

The folder is for one identity: the same inputs, options and code. For another it starts empty.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.files import read_json, write_json

IDENTITY = "identity.json"  # written first, taken away before anything finished is changed


class Kept:
    """A folder of finished parts; each part is written whole or not at all.

    Attributes:
        folder: hidden, beside the step's output, thus on the same file system.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        """Open what a killed run kept for `output`, or start anew.

        Args:
            output: the file that the step makes.
            identity: all that decides the content of a part.
        """
        self.folder = output.with_name(f".{output.stem}.kept")
        mark = self.folder / IDENTITY
        as_stored = json.loads(json.dumps(identity))
        if not mark.is_file() or read_json(mark) != as_stored:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(mark, identity)

    def path(self, name: str) -> Path:
        """Return where the part `name` is, or belongs."""
        return self.folder / name

    def parts(self) -> list[Path]:
        """Return what is finished."""
        return [path for path in self.folder.iterdir() if path.name != IDENTITY]

    def invalidate(self) -> None:
        """Let no later run go on from here; called before parts are changed in place."""
        (self.folder / IDENTITY).unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove the folder; the step's output is complete."""
        self.invalidate()
        shutil.rmtree(self.folder)

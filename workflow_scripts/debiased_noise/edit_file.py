"""Read and write noise edits in the file format of the released code.

    python -m workflow_scripts.debiased_noise.edit_file import --file dne_layer.pt \
        --out noise_edit.safetensors
    python -m workflow_scripts.debiased_noise.edit_file export --edit noise_edit.safetensors \
        --out dne_layer.pt

That format is a torch state dict with the single key `noise` (or `module.noise`), float32.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.noise_edit import (
    KEY,
    MODULE_PREFIX,
    Noise,
    norms,
    read_edit,
    require_noise,
    write_edit,
)
from workflow_scripts.debiased_noise.protocols import IMPORTED
from workflow_scripts.files import sha256_of, write_atomic
from workflow_scripts.problems import refuse

log = logging.getLogger(__name__)
RELEASED_SIZE = 224  # pixels a side


def read_released(path: Path, size_px: int | None = RELEASED_SIZE) -> Noise:
    """Return the edit in a file of the released code.

    Args:
        path: `dne_layer.pt` or `noise_layer.pt`; nothing in it is executed.
        size_px: side wanted; None takes any square.

    Raises:
        InputError: no such file, another key, shape or type, values that are not finite.
    """
    import torch

    expected = f"a torch state dict with the key {KEY!r}"
    if not path.is_file():
        raise refuse(str(path), expected, "no file", "check the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        found = str(error).splitlines()[0][:160]
        raise refuse(str(path), expected, found, "download the file again") from error
    names = [KEY, MODULE_PREFIX + KEY]
    if not isinstance(content, dict) or len(content) != 1 or next(iter(content)) not in names:
        found = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        raise refuse(str(path), expected, found, "give a noise edit, not a whole network")
    tensor = next(iter(content.values()))
    if not isinstance(tensor, torch.Tensor):
        raise refuse(str(path), "a tensor", type(tensor).__name__, "give a noise edit")
    return require_noise(str(path), tensor.detach().numpy(), size_px)


def write_released(path: Path, noise: Noise) -> None:
    """Write an edit as the released code does: it loads there with `load_state_dict`."""
    import torch

    content = {KEY: torch.from_numpy(noise)}
    write_atomic(path, lambda partial: torch.save(content, partial))


def main(arguments: Sequence[str] | None = None) -> None:
    """Import or export an edit from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    ways = parser.add_subparsers(dest="way", required=True)
    taken = ways.add_parser("import", help="released file -> ours")
    taken.add_argument("--file", type=Path, required=True, help="dne_layer.pt or noise_layer.pt")
    taken.add_argument("--size", type=int, default=RELEASED_SIZE, help="side in px (%(default)s)")
    given_out = ways.add_parser("export", help="ours -> released file")
    given_out.add_argument("--edit", type=Path, required=True, help="noise edit, .safetensors")
    for way in (taken, given_out):
        way.add_argument("--out", type=Path, required=True, help="file to write")
    given = parser.parse_args(arguments)
    if given.way == "import":
        noise = read_released(given.file, given.size)
        about = {"file": given.file.name, "sha256": sha256_of(given.file)}
        write_edit(given.out, noise, {"method": IMPORTED, "phantom": False, "source": about})
    else:
        noise, _ = read_edit(given.edit)
        write_released(given.out, noise)
    log.info("%s: %s", given.out, norms(noise))


if __name__ == "__main__":
    sys.exit(run(main))

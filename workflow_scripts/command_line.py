"""What every step's command line has in common.

A step is a module with `main(arguments)`; it ends with::

    if __name__ == "__main__":
        sys.exit(run(main))
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from workflow_scripts.problems import InputError

Main = Callable[[Sequence[str] | None], None]


def run(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Run one step; bad input ends with its message and exit status 1, without a traceback.

    Args:
        main: the step; parses `arguments` itself (None: the process's own).
        arguments: the command line after the module's name.

    Returns:
        The exit status: 0, or 1 when the input was refused.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main(arguments)
    except InputError as error:
        sys.stderr.write(f"refused: {error}\n")
        return 1
    return 0

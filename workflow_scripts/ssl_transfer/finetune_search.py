"""Step: one run of the search over learning rate and weight decay.

Each run trains all its updates without early stopping; its best validation metric stands for it
(SSL transfer, spec section 7). Runs are jobs of their own, so a cluster does them side by side.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from workflow_scripts.command_line import run
from workflow_scripts.files import write_json
from workflow_scripts.problems import refuse
from workflow_scripts.ssl_transfer.finetune import build_parser, defined, prepare
from workflow_scripts.ssl_transfer.finetune_grid import Candidate, n_candidates, search_grid


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one candidate and write how well it validates."""
    started = time.monotonic()
    parser = build_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--grid-size", type=int, default=2, help="learning rates (2)")
    parser.add_argument("--candidate", type=int, required=True, help="run of the grid, from 0")
    given = parser.parse_args(arguments)
    number = n_candidates(given.grid_size)
    if not 0 <= given.candidate < number:
        raise refuse("--candidate", f"0 to {number - 1}", str(given.candidate), "choose one")
    given.lr, given.weight_decay = search_grid(given.grid_size)[given.candidate]
    given.started, given.validate, given.patience = started, True, 0

    from workflow_scripts.ssl_transfer.finetune_loop import open_session, train

    setting, pieces, _, belongs_to = prepare(given)
    with open_session(setting, pieces, belongs_to) as session:
        train(setting, pieces, session)
        best = pieces.selection
        found = Candidate(given.lr, given.weight_decay, defined(best.best), best.best_step)
        if setting.devices.ranks.is_first:
            write_json(given.out, asdict(found))
        session.forget()


if __name__ == "__main__":
    sys.exit(run(main))

"""These tests need a cluster of their own: `make test-slurm` makes one and asks for them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("STEADFAST_INSIDE") == "yes" else ["test_*.py"]

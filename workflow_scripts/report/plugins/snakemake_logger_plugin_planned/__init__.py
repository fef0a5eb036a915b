"""Snakemake logger plugin: one JSON row for each job of a (dry) run, resources after the profile.

Found by Snakemake through its name when this folder's parent is on PYTHONPATH; started by
`workflow_scripts.report.planned_jobs`.
"""

import dataclasses
import json
import logging
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

UNKNOWN = "<TBD>"  # what Snakemake prints for a resource that depends on a file to come


@dataclasses.dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Where the rows go."""

    file: str = dataclasses.field(
        default="planned_jobs.jsonl", metadata={"help": "JSON lines, one a job"}
    )


class LogHandler(LogHandlerBase):
    """Writes a row for each job that Snakemake announces."""

    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def __post_init__(self) -> None:
        """Remember the jobs of the group under way: Snakemake announces a group, then its jobs."""
        self._group: dict[int, str] = {}
        self._groups = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Append the row of a job."""
        fields = vars(record)
        event = fields.get("event")
        if event == LogEvent.GROUP_INFO:
            self._groups += 1  # a dry run gives all groups of one kind the same name
            name = f"{fields['group_id']}-{self._groups}"
            self._group |= {job.jobid: name for job in fields["jobs"]}
        if event != LogEvent.JOB_INFO or not isinstance(self.settings, LogHandlerSettings):
            return
        resources = {
            name: value
            for name, value in fields["resources"].items()
            if isinstance(value, int) or (isinstance(value, str) and value != UNKNOWN)
        }
        row = {
            "rule": fields["rule_name"],
            "wildcards": dict(fields["wildcards"].items()),
            "input": [str(path) for path in fields["input"]],
            "output": [str(path) for path in fields["output"]],
            "benchmark": str(fields["benchmark"] or ""),
            "log": [str(path) for path in fields["log"]],
            "threads": fields["threads"],
            "resources": resources,
            "group": self._group.get(fields["jobid"], ""),
        }
        with Path(self.settings.file).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, sort_keys=True, default=str) + "\n")

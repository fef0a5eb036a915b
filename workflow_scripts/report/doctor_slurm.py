"""The doctor's look at SLURM: account, partitions and their limits, QOS, quotas."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.launch import time_left_minutes
from workflow_scripts.report.doctor_finding import OK, PROBLEM, UNKNOWN, WARNING, Ask, Finding

ACCOUNT = "SLURM_ACCOUNT_NAME"  # the environment variable that the profiles read
BUDGETS = ("saldo", "-b")  # CINECA's own: hours left
QUOTAS = ("cindata", "quota")  # CINECA's own, and the usual one


def examine(profile: Mapping[str, Any], partitions: Path, ask: Ask) -> Iterator[Finding]:
    """Yield what SLURM says about a profile.

    Args:
        profile: its content.
        partitions: the file with the limits that jobs are fitted to.
        ask: runs a program.
    """
    if ask(["sinfo", "--version"]) is None:
        step = "run this on the cluster's login node; a dry run (-n) needs no SLURM"
        yield Finding("SLURM", UNKNOWN, "its programs are not here", step)
        return
    user = getpass.getuser()
    columns = "format=Account,Partition,QOS"
    listed = ask(["sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", columns])
    rows = [line.split("|") for line in (listed or "").splitlines() if line]
    yield _account(rows, user)
    yield from _partitions(partitions, ask)
    yield from _qos(profile, rows)
    yield from _budget(ask)


def _account(rows: list[list[str]], user: str) -> Finding:
    name = os.environ.get(ACCOUNT, "")
    known = sorted({row[0] for row in rows})
    if not name:
        step = f"export {ACCOUNT}=<one of: {', '.join(known) or 'your projects accounts'}>"
        return Finding("account", PROBLEM, f"{ACCOUNT} is not set", step)
    if not rows:
        return Finding("account", UNKNOWN, f"{name}; sacctmgr lists no account of {user}")
    if name.lower() in (one.lower() for one in known):  # SLURM keeps names in lower case
        return Finding("account", OK, name)
    return Finding("account", PROBLEM, f"{name} is not one of {user}'s", f"use {', '.join(known)}")


def _partitions(file: Path, ask: Ask) -> Iterator[Finding]:
    import yaml

    limits: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["partitions"]
    text = ask(["sinfo", "-h", "-o", "%R|%l"])
    if text is None:
        step = "is the controller up? scontrol ping; try again later"
        yield Finding("partitions", PROBLEM, "sinfo has no answer", step)
        return
    times = dict(line.split("|") for line in text.splitlines())
    for name, limit in limits.items():
        if name not in times:
            step = f"name one of these in {file}: {', '.join(sorted(times))}"
            yield Finding(f"partition {name}", PROBLEM, "is not on this cluster", step)
            continue
        minutes = time_left_minutes(times[name])  # None: no limit
        if minutes is not None and limit["max_runtime"] > minutes:
            step = f"set max_runtime: {minutes:.0f} in {file}, or jobs wait for ever"
            found = f"runs {minutes:.0f} minutes, {file.name} says {limit['max_runtime']}"
            yield Finding(f"partition {name}", PROBLEM, found, step)
        else:
            yield Finding(f"partition {name}", OK, f"time limit {times[name]}")


def _qos(profile: Mapping[str, Any], rows: list[list[str]]) -> Iterator[Finding]:
    asked = {one.get("qos") for one in profile.get("set-resources", {}).values()}
    asked |= {profile.get("slurm-qos"), profile.get("default-resources", {}).get("qos")}
    allowed = {qos for row in rows for qos in row[2].split(",")}
    for name in sorted(asked - {None}):
        if not rows:
            yield Finding(f"QOS {name}", UNKNOWN, "sacctmgr does not tell")
        elif name in allowed:
            yield Finding(f"QOS {name}", OK, "allowed")
        else:
            step = f"ask the project's leader, or use one of {', '.join(sorted(allowed))}"
            yield Finding(f"QOS {name}", PROBLEM, "not allowed for this user", step)


def _budget(ask: Ask) -> Iterator[Finding]:
    budget = ask(BUDGETS)
    if budget is not None:
        yield Finding("budget", OK, " / ".join(budget.split("\n")[-4:]).strip())
    for program in QUOTAS:
        text = ask([program])
        if text and text.strip():
            status = WARNING if "100%" in text else OK
            yield Finding("quotas", status, " / ".join(text.strip().splitlines()[-4:]))
            return
    yield Finding("quotas", UNKNOWN, "no quota program answers here")

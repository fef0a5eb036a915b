"""The doctor finds what would stop a run, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from workflow_scripts.report import doctor, doctor_machine, doctor_slurm
from workflow_scripts.report.doctor_finding import OK, PROBLEM, UNKNOWN, WARNING, Ask, Finding, ask

PROFILE = {"executor": "slurm", "slurm-qos": "boost_qos_dbg"}


def answering(answers: Mapping[str, str]) -> Ask:
    """Answer a command by its first word, as SLURM's programs would."""

    def answer(command: Sequence[str]) -> str | None:
        return answers.get(command[0] + (" --version" if "--version" in command else ""))

    return answer


SLURM = {
    "sinfo --version": "slurm 22.05\n",
    "sinfo": "boost_usr_prod|1-00:00:00\nlrd_all_serial|4:00:00\n",
    "sacctmgr": "iscrc_x||normal,boost_qos_dbg\n",
}


@pytest.fixture
def partitions(root: Path) -> Path:
    return root / "profiles/leonardo/partitions.yaml"


def statuses(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.what: finding.status for finding in findings}


def test_a_program_that_is_not_there_has_no_answer() -> None:
    assert ask(["no-such-program-at-all"]) is None


def test_without_slurm_the_doctor_says_so_and_goes_on(partitions: Path) -> None:
    (finding,) = doctor_slurm.examine(PROFILE, partitions, answering({}))
    assert finding.status == UNKNOWN
    assert "login node" in finding.next_step


def test_a_fit_cluster_has_no_fault(partitions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ACCOUNT_NAME", "IscrC_X")  # SLURM lower-cases
    found = statuses(list(doctor_slurm.examine(PROFILE, partitions, answering(SLURM))))
    assert found["account"] == found["partition boost_usr_prod"] == found["QOS boost_qos_dbg"] == OK
    assert PROBLEM not in found.values()


@pytest.mark.parametrize("name", ["", "another"])
def test_a_missing_or_foreign_account_is_a_fault(
    name: str, partitions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ACCOUNT_NAME", name)
    finding = next(doctor_slurm.examine(PROFILE, partitions, answering(SLURM)))
    assert finding.status == PROBLEM
    assert "iscrc_x" in finding.next_step


def test_a_partition_that_is_shorter_or_missing_is_a_fault(partitions: Path) -> None:
    short = {**SLURM, "sinfo": "lrd_all_serial|1:00:00\n"}
    found = {f.what: f for f in doctor_slurm.examine(PROFILE, partitions, answering(short))}
    assert "max_runtime: 60" in found["partition lrd_all_serial"].next_step
    assert found["partition boost_usr_prod"].found == "is not on this cluster"


def test_a_qos_that_is_not_allowed_is_a_fault(partitions: Path) -> None:
    poor = {**SLURM, "sacctmgr": "iscrc_x||normal\n"}
    found = statuses(list(doctor_slurm.examine(PROFILE, partitions, answering(poor))))
    assert found["QOS boost_qos_dbg"] == PROBLEM


@pytest.mark.parametrize(
    ("built", "driver", "status"),
    [("13.0", "12.6", PROBLEM), ("12.8", "12.6", OK), ("13.0", "13.1", OK), ("12.8", "13.0", OK)],
)
def test_torch_and_driver_must_agree_in_the_major_version(
    built: str, driver: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "_torch_cuda", lambda: built)
    finding = doctor_machine.torch_and_driver(
        answering({"nvidia-smi": f"CUDA Version: {driver} |"})
    )
    assert finding.status == status
    assert (status == PROBLEM) == ("requirements-cuda12.lock" in finding.next_step)


def test_a_machine_without_driver_is_sent_to_a_compute_node() -> None:
    finding = doctor_machine.torch_and_driver(answering({}))
    assert finding.status == UNKNOWN


def test_libraries_are_compared_with_the_lock_that_fits_best(root: Path, tmp_path: Path) -> None:
    assert doctor_machine.lock_match(root / "envs").status == OK
    (tmp_path / "requirements.lock").write_text("numpy==1.0 \\\n    --hash=sha256:0\n")
    finding = doctor_machine.lock_match(tmp_path)
    assert finding.status == WARNING
    assert "locked 1.0" in finding.found


def a_config(folder: Path, sha256: str) -> dict[str, Any]:
    weights = folder / "w.pth"
    weights.write_bytes(b"weights")
    return {
        "pathvars": {"results": str(folder), "state": str(folder)},
        "phantoms": {},
        "source_root": str(folder),
        "checkpoints": {"net": {"file": "w.pth", "sha256": sha256}},
    }


def test_a_changed_weight_file_is_a_fault(tmp_path: Path) -> None:
    (finding,) = doctor_machine.checkpoint_hashes(a_config(tmp_path, "0" * 64))
    assert finding.status == PROBLEM
    good = doctor_machine.sha256_of(tmp_path / "w.pth")
    (finding,) = doctor_machine.checkpoint_hashes(a_config(tmp_path, good))
    assert finding.status == OK


def test_a_held_training_state_is_named_with_its_job(tmp_path: Path) -> None:
    lock = tmp_path / "training/smoke/lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "n1", "pid": 1, "job": "12", "token": "x", "beat": 3}))
    (alive,) = doctor_machine.state_locks(tmp_path, answering({"squeue": "RUNNING\n"}))
    assert "scancel 12" in alive.next_step
    (gone,) = doctor_machine.state_locks(tmp_path, answering({}))
    assert "takes it over" in gone.next_step
    lock.write_text(" ")  # released
    (free,) = doctor_machine.state_locks(tmp_path, answering({}))
    assert free.status == OK


def test_a_locked_working_folder_is_explained(tmp_path: Path) -> None:
    assert doctor_machine.controller_lock(tmp_path).status == OK
    (tmp_path / "0.input.lock").touch()
    assert "--unlock" in doctor_machine.controller_lock(tmp_path).next_step


def test_a_fault_is_the_exit_status(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(doctor, "examine", lambda *_: [Finding("disk", PROBLEM, "full", "free")])
    with pytest.raises(SystemExit) as end:
        doctor.main([])
    assert end.value.code == 1
    assert "FAULT disk: full" in capsys.readouterr().out


def test_overlays_merge_as_in_snakemake() -> None:
    merged = doctor.merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4})
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 4}

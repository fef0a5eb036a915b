"""A weight file arrives whole and right, or not at all, whatever the server does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.misbehaving_server import Server, serving
from workflow_scripts.checkpoints import download
from workflow_scripts.checkpoints.file_kind import PHANTOM_MARK
from workflow_scripts.checkpoints.proof import Checksum, exclusive, read_lock, record
from workflow_scripts.files import read_json
from workflow_scripts.problems import InputError

CONTENT = b"weights" + np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as one:
        yield one


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "weights.bin"


@pytest.fixture
def get(tmp_path: Path, place: Path, server: Server) -> Run:
    """Run the step against paths of the server; return the receipt."""

    def run(*paths: str, name: str = "weights.bin", **more: Any) -> dict[str, Any]:
        addresses = [server.address(path) for path in paths]
        entry: dict[str, Any] = {"format": "torchvision", "architecture": "resnet18"}
        entry |= {"normalisation": "imagenet", "page": "https://example.org/weights"} | more
        if addresses:
            entry |= {"url": addresses[0], "mirrors": addresses[1:]}
        receipt = tmp_path / "receipt.json"
        words = ["--options", json.dumps(entry), "--out", str(place.with_name(name))]
        words += ["--checksums", str(tmp_path / "checksums.csv"), "--receipt", str(receipt)]
        download.main([*words, "--attempts", "3", "--wait-s", "0.01", "--timeout-s", "0.3"])
        return read_json(receipt)

    return run


@pytest.mark.parametrize(
    "behaviour",
    [
        "good",
        "drops",
        "drops_without_range",
        "changed_meanwhile",
        "chunked",
        "busy",
        "silent",
        "google",
    ],
)
def test_the_file_arrives_whole_in_spite_of_the_server(
    behaviour: str, get: Run, place: Path
) -> None:
    receipt = get(behaviour)
    assert place.read_bytes() == CONTENT
    assert receipt["sha256"] == DIGEST
    assert sorted(path.name for path in place.parent.iterdir()) == [
        ".weights.bin.lock",
        "weights.bin",
    ]


def test_a_broken_transfer_goes_on_where_it_stopped(get: Run, server: Server) -> None:
    get("drops")
    starts = [int(text[6:-1]) for text in server.ranges]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] == len(CONTENT) // 5


def test_a_killed_download_is_resumed_by_the_next_run(
    get: Run, place: Path, server: Server
) -> None:
    place.parent.mkdir()
    part = place.with_name("weights.bin.part")
    part.write_bytes(CONTENT[:1_000_000])
    note = {"url": server.address("good"), "version": '"v1"', "total": len(CONTENT)}
    place.with_name("weights.bin.part.json").write_text(json.dumps(note))
    get("good")
    assert server.ranges == ["bytes=1000000-"]
    assert place.read_bytes() == CONTENT


def test_a_part_from_another_address_is_not_continued(
    get: Run, place: Path, server: Server
) -> None:
    place.parent.mkdir()
    place.with_name("weights.bin.part").write_bytes(b"other" * 1000)
    note = {"url": "http://127.0.0.1/elsewhere", "version": '"v1"', "total": len(CONTENT)}
    place.with_name("weights.bin.part.json").write_text(json.dumps(note))
    get("good")
    assert server.ranges == []
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("login", "a web page instead of the file"),
        ("page", "a web page instead of the file"),
        ("page_as_binary", "a web page instead of the file"),
        ("missing", "HTTP 404"),
        ("always_drops", "broke off 3 times in a row"),
        ("no_length", "does not say how long"),
    ],
)
def test_what_is_not_the_file_is_refused_with_what_to_do_by_hand(
    behaviour: str, words: str, get: Run, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        get(behaviour)
    message = str(refusal.value)
    assert words in message
    assert f"open https://example.org/weights in a browser, save the file as {place}" in message
    assert not place.exists()
    assert not (tmp_path / "receipt.json").exists()
    assert not (tmp_path / "checksums.csv").exists()


def test_an_address_that_is_given_up_is_asked_no_more_than_allowed(
    get: Run, server: Server
) -> None:
    with pytest.raises(InputError):
        get("missing", "always_drops")
    assert server.asked["missing"] == 1
    assert server.asked["always_drops"] == 4  # the first brought something new, then three did not


def test_the_next_mirror_is_asked_when_one_has_only_a_page(get: Run, server: Server) -> None:
    receipt = get("login", "missing", "good")
    assert receipt["url"] == server.address("good")


@pytest.mark.parametrize("behaviour", ["short_length", "other_bytes"])
@pytest.mark.parametrize(
    "known",
    [
        {"sha256": DIGEST},
        {"md5_prefix": hashlib.md5(CONTENT).hexdigest()[:8]},  # noqa: S324
    ],
    ids=["sha256", "md5_prefix"],
)
def test_other_bytes_than_the_publisher_s_are_refused(
    behaviour: str, known: dict[str, str], get: Run, place: Path
) -> None:
    with pytest.raises(InputError, match=r"digits|sha256 in the configuration"):
        get(behaviour, **known)
    assert not place.exists()
    assert not place.with_name("weights.bin.part").exists()
    get(behaviour, "good", **known)
    assert place.read_bytes() == CONTENT


def test_a_stated_size_that_differs_is_refused(get: Run) -> None:
    with pytest.raises(InputError, match=f"size its publisher states {len(CONTENT)}"):
        get("short_length", size_bytes=len(CONTENT))


def test_the_digits_in_torchvision_s_file_name_are_checked(get: Run, place: Path) -> None:
    receipt = get("good", name=f"resnet18-{DIGEST[:8]}.pth")
    assert receipt["checked_against"] == ["sha256 digits in the file's name"]
    with pytest.raises(InputError, match="digits in the file's name 00000000"):
        get("good", name="resnet18-00000000.pth")


def test_a_cut_zip_is_refused_even_where_its_length_was_as_announced(
    tmp_path: Path, place: Path
) -> None:
    whole = b"PK\x03\x04" + CONTENT
    with serving(whole) as server:
        entry = {"format": "simclr_tf", "architecture": "resnet50", "normalisation": "none"}
        entry["url"] = server.address("short_length")
        words = ["--options", json.dumps(entry), "--out", str(place)]
        words += ["--checksums", str(tmp_path / "c.csv"), "--receipt", str(tmp_path / "r.json")]
        with pytest.raises(InputError, match="a whole zip"):
            download.main(words)


# The lock of checksums


def test_the_first_download_is_recorded_and_enforced_ever_after(
    get: Run, place: Path, tmp_path: Path, server: Server
) -> None:
    get("good")
    line = Checksum("weights.bin", DIGEST, len(CONTENT), server.address("good"))
    assert read_lock(tmp_path / "checksums.csv") == {"weights.bin": line}
    place.unlink()
    with pytest.raises(InputError, match=f"sha256 in the lock {DIGEST}"):
        get("other_bytes")
    assert get("good")["checked_against"] == ["sha256 in the lock"]


def test_a_damaged_lock_is_refused_with_its_row(get: Run, tmp_path: Path) -> None:
    lock = tmp_path / "checksums.csv"
    lock.write_text("file,sha256,size_bytes,url\nweights.bin,abc,12,\n")
    with pytest.raises(InputError, match=r"checksums\.csv row 2"):
        get("good")
    lock.write_text("file,hash\n")
    with pytest.raises(InputError, match="columns file, sha256, size_bytes, url"):
        get("good")


def test_downloads_that_end_at_once_are_all_recorded(tmp_path: Path) -> None:
    lock = tmp_path / "checksums.csv"
    lines = [Checksum(f"{index}.pth", f"{index:064x}", index, "") for index in range(8)]
    threads = [threading.Thread(target=record, args=(lock, line)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(read_lock(lock).values()) == lines


def test_a_second_download_of_the_same_file_is_refused_while_the_first_runs(
    get: Run, place: Path
) -> None:
    place.parent.mkdir()
    with (
        exclusive(place.with_name(".weights.bin.lock"), wait=False),
        pytest.raises(InputError, match="one under way"),
    ):
        get("good")


# Files placed by hand


def test_a_file_placed_by_hand_is_proven_and_kept(get: Run, place: Path, server: Server) -> None:
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    receipt = get("good", sha256=DIGEST)
    assert receipt["placed_by_hand"]
    assert not server.asked


def test_a_wrong_file_placed_by_hand_is_refused_and_not_touched(get: Run, place: Path) -> None:
    place.parent.mkdir()
    place.write_bytes(b"something else")
    with pytest.raises(InputError, match="move it away and run again"):
        get("good", sha256=DIGEST)
    assert place.read_bytes() == b"something else"


def test_a_saved_page_placed_by_hand_is_named_as_such(get: Run, place: Path) -> None:
    place.parent.mkdir()
    place.write_bytes(b"<html>log in</html>")
    with pytest.raises(InputError, match="a web page"):
        get("good")


def test_a_phantom_among_the_published_files_is_refused(
    get: Run, place: Path, tmp_path: Path
) -> None:
    place.parent.mkdir()
    place.write_bytes(CONTENT + PHANTOM_MARK)
    with pytest.raises(InputError, match="a phantom"):
        get("good")
    assert not (tmp_path / "checksums.csv").exists()


def test_a_user_s_own_file_without_address_is_proven_but_not_recorded(
    get: Run, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"place it at {place}"):
        get()
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(CONTENT)
    assert get()["sha256"] == DIGEST
    assert not (tmp_path / "checksums.csv").exists()


def test_the_step_starts_without_torch() -> None:
    code = (
        "import sys, workflow_scripts.checkpoints.download, workflow_scripts.checkpoints.list;"
        "print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.datasets.segmentation_archives import write_small
from workflow_scripts.datasets import corrupt, manifest, volume_sheet, volume_store
from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.datasets.volume_files import read_checked
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.datasets.volumes import GRIDS, in_plane_137
from workflow_scripts.problems import InputError


def made(folder: Path, layout: str, grid: str, **options: object) -> Path:
    """Write an archive of `layout` and make manifest and store with the command lines."""
    root = folder / layout
    if not root.exists():
        write_small(root, layout, 9)
    entry = json.dumps({"layout": layout, "root": layout, **options})
    out = {key: str(folder / f"{layout}.{key}") for key in ("parquet", "json", "csv")}
    words = ["--dataset", layout, "--options", entry, "--root", str(root), "--seed", "0"]
    files = ["--manifest", out["parquet"], "--card", out["json"], "--quarantine", out["csv"]]
    manifest.main([*words, *files])
    store(folder, layout, grid)
    return root


def store(folder: Path, layout: str, grid: str) -> None:
    stem = folder / layout
    words = ["--manifest", f"{stem}.parquet", "--card", f"{stem}.json", "--root", str(stem)]
    files = ["--images", f"{stem}.i.npy", "--masks", f"{stem}.m.npy", "--index", f"{stem}.slices"]
    volume_store.main([*words, "--grid", grid, *files, "--quarantine", f"{stem}.q.csv"])


def opened(folder: Path, layout: str) -> VolumeStore:
    stem = folder / layout
    return VolumeStore(Path(f"{stem}.i.npy"), Path(f"{stem}.m.npy"), Path(f"{stem}.slices"))


def test_the_store_holds_every_volume_at_its_grid(tmp_path: Path) -> None:
    root = made(tmp_path, "acdc", "inplane137")
    found = opened(tmp_path, "acdc")
    rows = pd.read_parquet(tmp_path / "acdc.parquet")
    assert found.index["image_id"].drop_duplicates().tolist() == rows["image_id"].tolist()
    from workflow_scripts.datasets.acdc import LABELS

    for row in rows.to_dict("records"):
        expected = in_plane_137(read_checked(root, row, LABELS, frozenset()).volume)
        volume = found.volume(row["image_id"])
        np.testing.assert_array_equal(volume.image, expected.image)
        np.testing.assert_array_equal(volume.mask, expected.mask)
        assert volume.spacing_mm == expected.spacing_mm
    image, mask = found.slice(5)
    entry = found.index.iloc[5]
    np.testing.assert_array_equal(image, found.volume(entry["image_id"]).image[entry["slice"]])
    assert int((mask > 0).sum()) == entry["foreground"]


def test_two_processes_make_the_same_store_as_one(tmp_path: Path) -> None:
    made(tmp_path, "acdc", "inplane137")
    first = Path(f"{tmp_path}/acdc.i.npy").read_bytes()
    stem = tmp_path / "acdc"
    words = ["--manifest", f"{stem}.parquet", "--card", f"{stem}.json", "--root", str(stem)]
    files = ["--images", f"{stem}.i.npy", "--masks", f"{stem}.m.npy", "--index", f"{stem}.slices"]
    extra = ["--grid", "inplane137", "--quarantine", f"{stem}.q.csv", "--jobs", "2"]
    volume_store.main([*words, *files, *extra])
    assert Path(f"{stem}.i.npy").read_bytes() == first


class Stopped(Exception):
    """Stands for a kill: nothing after it runs."""


def stop_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, n: int) -> list[str]:
    """Let the function `name` of `module` stop the run at its call number `n`; list its calls."""
    calls: list[str] = []
    function = getattr(module, name)

    def counted(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) > n:
            raise Stopped
        return function(*arguments)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_killed_store_goes_on_with_the_volumes_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "acdc", "inplane137")
    files = [Path(f"{tmp_path}/acdc.{kind}") for kind in ("i.npy", "m.npy", "slices")]
    expected = [file.read_bytes() for file in files]
    with monkeypatch.context() as patch:
        stop_after(patch, volume_store, "prepare_row", 3)
        with pytest.raises(Stopped):
            store(tmp_path, "acdc", "inplane137")
    assert not files[2].exists()
    calls = stop_after(monkeypatch, volume_store, "prepare_row", 99)
    store(tmp_path, "acdc", "inplane137")
    assert len(calls) == len(pd.read_parquet(tmp_path / "acdc.parquet")) - 3
    assert [file.read_bytes() for file in files] == expected
    assert not list(tmp_path.glob(".*.kept"))


def test_a_killed_corruption_goes_on_with_the_volumes_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path, "acdc", "inplane137")
    marker = tmp_path / "acdc_c" / "CORRUPTED.json"
    words = ["--manifest", f"{root}.parquet", "--card", f"{root}.json", "--root", str(root)]
    words += ["--options", '{"draws": 1}', "--seed", "3", "--out", str(marker)]
    corrupt.main(words)
    expected = {path: path.read_bytes() for path in marker.parent.rglob("*.*")}
    n_volumes = len(corrupt.test_rows(Path(f"{root}.parquet")))
    marker.unlink()
    with monkeypatch.context() as patch:
        stop_after(patch, corrupt, "read_checked", 1)
        with pytest.raises(Stopped):
            corrupt.main(words)
    calls = stop_after(monkeypatch, corrupt, "read_checked", 99)
    corrupt.main(words)
    assert len(calls) == n_volumes - 1
    assert {path: path.read_bytes() for path in marker.parent.rglob("*.*")} == expected


def test_a_file_changed_after_the_manifest_stops_the_store(tmp_path: Path) -> None:
    root = made(tmp_path, "acdc", "inplane137")
    one, other = sorted(root.glob("patient*/*frame01.nii.gz"))[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="expected the files of the manifest"):
        store(tmp_path, "acdc", "inplane137")
    assert not (tmp_path / "acdc.slices").exists()


def test_a_volume_that_does_not_fit_the_grid_is_quarantined(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pixels of 1\.5 x 1\.5 mm, expected 1\.36719"):
        made(tmp_path, "acdc", "stored137")


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_every_grid_keeps_image_and_mask_alike(grid: str) -> None:
    mask = np.zeros((5, 40, 44), np.uint8)
    mask[1:4, 10:30, 12:30] = 2
    image = np.random.default_rng(0).random(mask.shape).astype(np.float32)
    if grid == "lesion256":
        image, mask = image[2:3], mask[2:3]
    spacing = 1.36719 if grid == "stored137" else 1.5
    ours = GRIDS[grid](Volume(image, mask, (8.0, spacing, spacing)))
    assert ours.image.shape == ours.mask.shape
    assert ours.image.dtype == np.float32
    assert ours.mask.dtype == np.uint8
    assert set(np.unique(ours.mask)) <= {0, 2}


def test_corrupted_copies_of_the_test_patients_are_read_back(tmp_path: Path) -> None:
    root = made(tmp_path, "acdc", "inplane137")
    words = ["--manifest", f"{root}.parquet", "--card", f"{root}.json", "--root", str(root)]
    marker = tmp_path / "acdc_c" / "CORRUPTED.json"
    draws = ["--options", '{"draws": 1}', "--seed", "3", "--out", str(marker)]
    corrupt.main([*words, *draws])
    about = json.loads(marker.read_text())
    assert about["phantom"] is True
    made(tmp_path, "acdc_c", "stored137", made_from="acdc")
    rows = pd.read_parquet(tmp_path / "acdc_c.parquet")
    tested = pd.read_parquet(f"{root}.parquet").query("split == 'test'")
    assert set(rows["patient_id"]) == set(tested["patient_id"])
    assert rows.groupby("domain").size().nunique() == 1
    assert len(about["parameters"]) == len(rows) == 4 * len(tested)
    first = {path: path.read_bytes() for path in marker.parent.rglob("*.nii.gz")}
    corrupt.main([*words, *draws])
    assert {path: path.read_bytes() for path in marker.parent.rglob("*.nii.gz")} == first
    made(tmp_path, "acdc_c", "stored137", made_from="acdc")
    original, copy = opened(tmp_path, "acdc"), opened(tmp_path, "acdc_c")
    name = tested["image_id"].iloc[0]
    corrupted = f"RandomSpike_{name.rpartition('_')[0]}_0_{name.rpartition('_')[2]}"
    np.testing.assert_array_equal(copy.volume(corrupted).mask, original.volume(name).mask)
    assert not np.allclose(copy.volume(corrupted).image, original.volume(name).image)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        ('{"drawz": 1}', "corruption.drawz"),
        ('{"draws": 0}', "a number from 1"),
        ('{"spike_intensity": 1}', "lowest and highest"),
    ],
)
def test_wrong_corruption_settings_are_refused(options: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        corrupt.read_settings(options)
    assert expected in str(caught.value)


def test_the_contact_sheet_is_drawn(tmp_path: Path) -> None:
    from PIL import Image

    made(tmp_path, "acdc", "inplane137")
    stem = tmp_path / "acdc"
    files = ["--images", f"{stem}.i.npy", "--masks", f"{stem}.m.npy", "--index", f"{stem}.slices"]
    volume_sheet.main([*files, "--out", str(tmp_path / "sheet.jpg")])
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (2 * 4 * 128, 8 * 128)

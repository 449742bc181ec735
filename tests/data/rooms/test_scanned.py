"""A set of rooms of style scanned, as preprocessing finds it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data.labels import SCANNET20
from data.rooms.dataset import make_dataset
from data.rooms.scanned import ID_OF
from data.scannet import read_label_table, read_scan
from scripts import make_synthetic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("scanned") / "rooms"
    return out, make_dataset(out, scenes=3, seed=5, workers=2, style="scanned")


def test_the_scans_can_be_read(dataset):
    out, report = dataset
    assert report["arguments"]["style"] == "scanned" and report["vertices"] > 3 * 8000
    names = [name for split in ("train", "val") for name in (out / "splits" / f"{split}.txt").read_text().split()]
    assert names == ["scene1000_00", "scene1001_00", "scene6000_00"]
    table = read_label_table(out / "scannetv2-labels.combined.tsv")
    for name in names:
        scan = read_scan(out / "scans" / name)
        assert np.isfinite(scan.xyz).all() and np.ptp(scan.xyz, 0).min() > 1
        ids, counts = np.unique(scan.label, return_counts=True)
        share = dict(zip(ids.tolist(), (counts / len(scan.label)).tolist(), strict=True))
        assert 0.04 < share[0] < 0.4, "not annotated"
        assert share[ID_OF["floor"]] > 0.03 and share[ID_OF["wall"]] > 0.05
        assert (SCANNET20.class_of[ids] > 0).sum() >= 4
        segments = json.loads((out / "scans" / name / f"{name}_vh_clean_2.0.010000.segs.json").read_text())[
            "segIndices"
        ]
        sizes = np.bincount(segments)
        assert len(segments) == len(scan.xyz) and 20 <= np.median(sizes[sizes > 0]) <= 300
        groups = json.loads((out / "scans" / name / f"{name}.aggregation.json").read_text())["segGroups"]
        assert {group["label"] for group in groups} <= set(table)


def test_the_bytes_depend_on_the_seed_alone(dataset, tmp_path):
    out, report = dataset
    assert make_dataset(tmp_path / "again", scenes=3, seed=5, workers=1, style="scanned") == report
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(out)).read_bytes(), path.name


def test_a_finished_set_is_left_as_it_is(dataset):
    out, report = dataset
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert make_dataset(out, scenes=3, seed=5, style="scanned") == report
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == stamps
    with pytest.raises(FileExistsError, match="another --out"):
        make_dataset(out, scenes=3, seed=5, style="plain")


def test_options_of_the_other_style_are_refused(tmp_path, capsys):
    for flags in (
        ["--style", "scanned", "--shuffle-labels"],
        ["--style", "scanned", "--telling-colours"],
        ["--style", "plain", "--furniture", str(tmp_path)],
    ):
        with pytest.raises(SystemExit) as stop:
            make_synthetic.main(["--out", str(tmp_path / "x"), *flags])
        assert stop.value.code == 2 and "leave" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_synthetic.main(["--out", str(tmp_path / "x"), "--scenes", "2", "--furniture", str(tmp_path)])
    assert str(tmp_path) in capsys.readouterr().err


def test_missing_libraries_are_named(tmp_path):
    without = "import sys; sys.modules['embreex'] = None; from scripts import make_synthetic; "
    command = f"make_synthetic.main(['--out', {str(tmp_path / 'x')!r}, '--scenes', '2'])"
    done = subprocess.run([sys.executable, "-c", without + command], capture_output=True, text=True)
    assert done.returncode == 2 and "requirements-rooms.txt" in done.stderr
    assert not (tmp_path / "x").exists(), "nothing is in the way of another style"

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from plyfile import PlyData, PlyElement

from data import preprocessing, scannet
from data.coloured_ply import write_comparison
from data.labels import SCANNET20, label_space
from data.ply import vertex_normals
from data.scannet import read_scan, scan_files
from data.scenes import read_manifest, read_scene, write_scene
from scripts import preprocess_scannet

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "preprocess_scannet.py"


def preprocess(tmp_path, *options, scans="scans"):
    """Exit status of the script, run in this process."""
    return preprocess_scannet.main(
        ["--scans", str(tmp_path / scans), "--out", str(tmp_path / "out"), "--workers", "1", *map(str, options)]
    )


def write_splits(folder, **lists):
    folder.mkdir(exist_ok=True)
    for split, ids in lists.items():
        (folder / f"{split}.txt").write_text("\n".join([*ids, ""]), encoding="utf-8")
    return folder


def snapshot(folder):
    """Path -> (modification time, content) of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def contents(folder):
    return {name: content for name, (_, content) in snapshot(folder).items()}


def test_official_splits(write_raw_scan, tmp_path, capsys):
    write_raw_scan("scene0000_00")
    write_raw_scan("scene0011_01", seed=1)
    write_raw_scan("scene0707_00", labelled=False)
    (tmp_path / "scans" / "readme").mkdir()
    assert preprocess(tmp_path) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["splits"] == {"train": ["scene0000_00"], "val": ["scene0011_01"], "test": ["scene0707_00"]}
    assert manifest["expected"] == {"train": 1201, "val": 312, "test": 100}
    assert manifest["failed"] == {}
    entry = manifest["scenes"]["scene0011_01"]
    path = tmp_path / "out" / entry["file"]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (entry["vertices"], entry["labelled"]) == (36, True)
    assert entry["histogram"] == {0: 9, 1: 9, 2: 9, 5: 9}
    raw, scene = read_scan(tmp_path / "scans" / "scene0011_01"), read_scene(path, None)
    assert scene.name == "scene0011_01"
    for field in ("xyz", "colour", "label", "faces"):
        np.testing.assert_array_equal(getattr(scene, field), getattr(raw, field))
    unlabelled = manifest["scenes"]["scene0707_00"]
    assert (unlabelled["labelled"], unlabelled["histogram"]) == (False, {})
    assert read_scene(tmp_path / "out" / unlabelled["file"]).label is None
    rows = {line[:16].strip(): line[16:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows["scans"] == ["1", "1", "1"]
    assert rows["expected"] == ["1,201", "312", "100"]
    assert rows["vertices"] == ["36", "36", "36"]
    assert rows["not annotated"] == rows["wall"] == rows["chair"] == ["25.0", "25.0", "-"]
    assert rows["sofa"] == rows["other ids"] == ["0.0", "0.0", "-"]


def test_as_scannet_unpacks_it(write_raw_scan, tmp_path):
    write_raw_scan("scene0000_00", root=tmp_path / "scannet" / "scans")
    write_raw_scan("scene0806_00", root=tmp_path / "scannet" / "scans_test", labelled=False)
    assert preprocess(tmp_path, scans="scannet") == 0
    assert list(read_manifest(tmp_path / "out")["scenes"]) == ["scene0000_00", "scene0806_00"]


def test_listed_splits_of_other_data(write_raw_scan, tmp_path):
    for name in ("room-a", "room.b", "Room_C"):
        write_raw_scan(name)
    splits = write_splits(tmp_path / "lists", train=["\ufeffroom-a ", "", "Room_C\r"], val=["room.b"])
    assert preprocess(tmp_path, "--splits", splits) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["splits"] == {"train": ["room-a", "Room_C"], "val": ["room.b"], "test": []}
    assert manifest["expected"] == {"train": 2, "val": 1, "test": 0}


def test_label_table(write_raw_scan, label_table_file, tmp_path):
    folder = write_raw_scan()
    scan_files(folder)["labels"].unlink()
    assert preprocess(tmp_path, "--labels", label_table_file) == 0
    label = read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5").label
    np.testing.assert_array_equal(label, np.repeat([1, 2, 5, 0], 9))


def test_scannet200_has_the_tables_own_ids(write_raw_scan, tmp_path, capsys):
    write_raw_scan()
    assert preprocess(tmp_path, "--label-space", "scannet200") == 2
    assert "--labels" in capsys.readouterr().err and not (tmp_path / "out").exists()
    table = tmp_path / "labels.tsv"
    table.write_text("id\traw_category\tnyu40id\n1\twall\t9\n3\tfloor\t9\n1163\toffice chair\t9\n")
    assert preprocess(tmp_path, "--label-space", "scannet200", "--labels", table) == 0
    label = read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5").label
    np.testing.assert_array_equal(label, np.repeat([1, 3, 1163, 0], 9))
    assert read_manifest(tmp_path / "out")["label_space"] == label_space("scannet200")
    table.write_text("id\traw_category\n65536\twall\n")
    assert preprocess(tmp_path, "--label-space", "scannet200", "--labels", table) == 2


def test_ids_are_those_of_the_label_space(write_raw_scan, tmp_path, capsys):
    """The scan has 9 vertices each of 0, 1, 2 and 5."""
    write_raw_scan()

    def in_space(**more):
        content = {"name": "own", "classes": [{"id": [6, 40], "name": "seat"}], **more}
        (tmp_path / "own.json").write_text(json.dumps(content))
        return preprocess(tmp_path, "--label-space", tmp_path / "own.json")

    assert in_space(unannotated=[0], other=[1, 2]) == 1
    said = capsys.readouterr()
    assert "9 vertices have the label 5" in said.out and "own" in said.out
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert in_space(unannotated=[0], other=[1, 2, 5]) == 0
    assert "vertices are not annotated" not in capsys.readouterr().out
    assert read_manifest(tmp_path / "out")["label_space"] == label_space(tmp_path / "own.json")
    assert in_space(unannotated=[0, 1, 2, 5]) == 0
    assert "100 % of its vertices are not annotated" in capsys.readouterr().out


def test_normals_and_axis_alignment(write_raw_scan, tmp_path):
    folder = write_raw_scan()
    assert preprocess(tmp_path, "--normals", "--axis-align") == 0
    raw, scene = read_scan(folder), read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5", None)
    x, y, z = raw.xyz.T
    np.testing.assert_allclose(scene.xyz, np.stack([2 - y, 3 + x, z], 1), rtol=1e-6)  # a quarter turn, as the txt says
    np.testing.assert_array_equal(scene.normal, vertex_normals(scene.xyz, raw.faces))


def test_a_scan_without_axis_alignment(write_raw_scan, tmp_path, capsys):
    """Of the test split it stays as it is and is named, on every run; of the others it fails."""
    names = {"train": "scene0000_00", "val": "scene0011_00", "test": "scene0707_00"}
    for split, name in names.items():
        info = scan_files(write_raw_scan(name, labelled=split != "test"))["info"]
        info.unlink() if split == "train" else info.write_text("sceneType = Office\n")
    assert preprocess(tmp_path) == 0
    assert "axisAlignment" not in capsys.readouterr().out
    for _ in range(2):
        assert preprocess(tmp_path, "--axis-align") == 1
        manifest = read_manifest(tmp_path / "out")
        assert list(manifest["scenes"]) == [names["test"]]
        for split in ("train", "val"):
            assert f"no axisAlignment, and --axis-align needs one of every {split}" in manifest["failed"][names[split]]
        assert "1 test scans have no axisAlignment and stay as they are: scene0707_00" in capsys.readouterr().out
    raw, scene = (
        read_scan(tmp_path / "scans" / names["test"]),
        read_scene(tmp_path / "out" / "scenes" / "scene0707_00.h5"),
    )
    np.testing.assert_array_equal(raw.xyz, scene.xyz)


def test_map_coordinates(write_raw_scan, tmp_path, capsys):
    """Moved before they are rounded; the offset is kept, through an alignment too, and pictures stand in place."""
    folder = write_raw_scan()
    files = scan_files(folder)
    plain = read_scan(folder)
    assert preprocess(tmp_path) == 0
    path = tmp_path / "out" / "scenes" / "scene0000_00.h5"
    assert read_scene(path).offset is None
    place = np.array([450_000.25, 5_411_932.5, 103.125])
    for role in ("mesh", "labels"):
        ply = PlyData.read(str(files[role]), mmap=False)
        columns = [(key, "f8" if key in "xyz" else kind) for key, kind in ply["vertex"].data.dtype.descr]
        vertex = ply["vertex"].data.astype(columns)
        for axis, distance in zip("xyz", place, strict=True):
            vertex[axis] += distance
        PlyData([PlyElement.describe(vertex, "vertex"), ply["face"]]).write(str(files[role]))
    assert preprocess(tmp_path, "--normals") == 0
    assert (
        "1 scans have map coordinates and were moved, scene0000_00 by 450000 5411932 103 m" in capsys.readouterr().out
    )
    scene = read_scene(path, None)
    np.testing.assert_allclose(scene.xyz + scene.offset - place, plain.xyz, atol=1e-6)
    np.testing.assert_allclose(scene.normal, vertex_normals(plain.xyz, plain.faces), atol=1e-3)
    write_comparison(tmp_path / "ply", path, np.ones(36, np.uint16), SCANNET20)
    shown = PlyData.read(tmp_path / "ply" / "scene0000_00_prediction.ply")["vertex"]
    np.testing.assert_allclose(np.stack([shown[axis] for axis in "xyz"], 1) - place, plain.xyz, atol=1e-6)
    write_scene(path, dataclasses.replace(scene, offset=scene.offset + 1))
    assert preprocess(tmp_path, "--normals") == 0
    np.testing.assert_array_equal(read_scene(path).offset, scene.offset)  # another place is another scene
    assert preprocess(tmp_path, "--axis-align") == 0
    scene = read_scene(path)
    x, y, z = (plain.xyz + place).T
    np.testing.assert_allclose(scene.xyz + scene.offset, np.stack([2 - y, 3 + x, z], 1), rtol=0, atol=1e-6)


def test_a_scene_that_the_scan_contradicts_is_not_kept(write_raw_scan, tmp_path, capsys):
    """Such as one that was made of labels in another order before they were compared."""
    files = scan_files(write_raw_scan())
    assert preprocess(tmp_path) == 0
    path = tmp_path / "out" / "scenes" / "scene0000_00.h5"
    expected = path.read_bytes()
    scene = read_scene(path, None)
    write_scene(path, dataclasses.replace(scene, label=scene.label[::-1].copy()))
    assert preprocess(tmp_path) == 0
    assert "1 scenes made, 0 were whole already" in capsys.readouterr().out.splitlines()[-1]
    assert path.read_bytes() == expected
    ply = PlyData.read(str(files["labels"]), mmap=False)
    ply["vertex"].data = ply["vertex"].data[::-1].copy()
    ply.write(str(files["labels"]))
    assert preprocess(tmp_path) == 1


def test_a_scan_without_colours(write_raw_scan, tmp_path):
    mesh = scan_files(write_raw_scan())["mesh"]
    ply = PlyData.read(str(mesh), mmap=False)
    vertex = repack_fields(ply["vertex"].data[["x", "y", "z"]])
    PlyData([PlyElement.describe(vertex, "vertex"), ply["face"]]).write(str(mesh))
    assert preprocess(tmp_path) == 0
    before = snapshot(tmp_path / "out")
    assert read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5", None).colour is None
    assert preprocess(tmp_path) == 0
    assert snapshot(tmp_path / "out")["scenes/scene0000_00.h5"] == before["scenes/scene0000_00.h5"]


def test_categories_that_the_table_lacks(write_raw_scan, label_table_file, tmp_path, capsys):
    """Counted and named, of the scans that are read, with --shard too; a scan that so loses all its labels fails."""
    renamed = {"scene0000_00": ["Wall", "floor", "office chair"], "scene0001_00": ["wall", "gizmo", "gizmo"]}
    renamed["scene0002_00"] = ["gizmo", "gizmo", "gizmo"]
    for name, categories in renamed.items():
        path = scan_files(write_raw_scan(name))["aggregation"]
        content = json.loads(path.read_text())
        for group, category in zip(content["segGroups"], categories, strict=True):
            group["label"] = category
        path.write_text(json.dumps(content))
    assert preprocess(tmp_path, "--labels", label_table_file, "--shard", "1/3") == 0
    said = capsys.readouterr().out
    assert "1 categories of 1 scans are not in the label table" in said and "'gizmo' (2)" in said
    assert preprocess(tmp_path, "--labels", label_table_file) == 1
    said = capsys.readouterr().out
    assert "2 categories of 2 scans are not" in said  # of those that were whole already, too
    assert "'Wall' (1, 'wall' is probably meant)" in said and "'gizmo' (2)" in said
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest["failed"]) == ["scene0002_00"] and "'gizmo' (3)" in manifest["failed"]["scene0002_00"]
    label = read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5").label
    np.testing.assert_array_equal(label, np.repeat([0, 2, 5, 0], 9))  # reported, not applied


def test_odd_scans_are_told_and_kept_as_they_are(write_raw_scan, tmp_path, capsys):
    write_raw_scan("scene0000_00", side=40)
    raw = read_scan(write_raw_scan("scene0001_00", side=3))
    assert preprocess(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("odd: ") == 1 and re.search("odd: scene0001_00: .* small for a room", said)
    assert "1 of 2 scans look odd" in said
    np.testing.assert_array_equal(read_scene(tmp_path / "out" / "scenes" / "scene0001_00.h5").xyz, raw.xyz)


def test_a_scene_that_does_not_read_back_is_a_failed_scan(write_raw_scan, tmp_path, monkeypatch):
    write_raw_scan()
    monkeypatch.setattr("data.scenes._file_image", lambda *_: b"no HDF5")
    assert preprocess(tmp_path) == 1
    assert not list((tmp_path / "out" / "scenes").iterdir())


def test_failures_cost_a_line_each(write_raw_scan, tmp_path, capsys):
    write_raw_scan("scene0000_00")
    scan_files(write_raw_scan("scene0001_00"))["mesh"].write_bytes(b"ply")
    write_raw_scan("scene0002_00", labelled=False)
    write_raw_scan("scene0807_00")
    write_raw_scan("scene0707_00", labelled=False)
    assert preprocess(tmp_path) == 1
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest["scenes"]) == ["scene0000_00", "scene0707_00"]
    assert "scene0001_00_vh_clean_2.ply: truncated" in manifest["failed"]["scene0001_00"]
    assert "scene0002_00: has no labels, and train scans need them" in manifest["failed"]["scene0002_00"]
    assert "no space 807" in manifest["failed"]["scene0807_00"]
    out = capsys.readouterr().out
    for cause in manifest["failed"].values():
        assert f"failed: {cause}\n" in out
    assert out.count("failed:") == 3
    assert "2 scenes made, 0 were whole already, 3 scans failed" in out


def test_an_unexpected_error_is_a_failure_too(write_raw_scan, tmp_path, monkeypatch):
    write_raw_scan("scene0000_00")
    write_raw_scan("scene0001_00")
    read = scannet.read_scan
    monkeypatch.setattr(
        scannet, "read_scan", lambda folder, table: read(folder, table) if folder.name < "scene0001" else 1 / 0
    )
    assert preprocess(tmp_path) == 1
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest["scenes"]) == ["scene0000_00"]
    assert "scene0001_00: ZeroDivisionError" in manifest["failed"]["scene0001_00"]


def test_listed_but_missing(write_raw_scan, tmp_path):
    write_raw_scan("room-a")
    splits = write_splits(tmp_path / "lists", train=["room-a", "room-b"])
    assert preprocess(tmp_path, "--splits", splits) == 1
    manifest = read_manifest(tmp_path / "out")
    assert manifest["splits"]["train"] == ["room-a"]
    assert manifest["expected"]["train"] == 2
    assert "room-b: listed in train.txt, but there is no such folder" in manifest["failed"]["room-b"]


def test_a_manifest_is_not_replaced_by_an_empty_one(write_raw_scan, tmp_path, capsys):
    write_raw_scan("scene1000_00")
    splits = write_splits(tmp_path / "lists", train=["scene1000_00"])
    assert preprocess(tmp_path, "--splits", splits) == 0
    before = read_manifest(tmp_path / "out")
    assert preprocess(tmp_path) == 1  # the lists forgotten
    assert "no scene was made, manifest.json" in capsys.readouterr().err
    assert read_manifest(tmp_path / "out") == before


def test_a_manifest_that_cannot_be_written_is_an_error(write_raw_scan, tmp_path, monkeypatch, capsys):
    write_raw_scan("scene0000_00")
    assert preprocess(tmp_path) == 0
    before = contents(tmp_path / "out")

    def full_disk(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    assert preprocess(tmp_path) == 1
    assert "manifest.json was not written (no space left on device)" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


# A second run


def test_a_second_run_keeps_what_is_whole(write_raw_scan, tmp_path, capsys):
    for name in ("scene0000_00", "scene0001_00", "scene0002_00", "scene0003_00", "scene0004_00"):
        write_raw_scan(name)
    assert preprocess(tmp_path) == 0
    first = snapshot(tmp_path / "out")
    scenes = tmp_path / "out" / "scenes"
    scenes.joinpath("scene0000_00.h5").unlink()
    scenes.joinpath("scene0001_00.h5").write_bytes(first["scenes/scene0001_00.h5"][1][:500])
    damaged = bytearray(first["scenes/scene0002_00.h5"][1])
    damaged[-50] ^= 1
    scenes.joinpath("scene0002_00.h5").write_bytes(damaged)
    scenes.joinpath("scene0004_00.h5.tmp").write_bytes(b"left by a run that was killed")
    assert preprocess(tmp_path) == 0
    second = snapshot(tmp_path / "out")
    assert "3 scenes made, 2 were whole already" in capsys.readouterr().out
    assert contents(tmp_path / "out") == {name: content for name, (_, content) in first.items()}
    for kept in ("scenes/scene0003_00.h5", "scenes/scene0004_00.h5"):
        assert second[kept][0] == first[kept][0]  # not written again


@pytest.mark.parametrize("options", [["--normals"], ["--axis-align"], ["--labels"]])
def test_other_options_make_it_again(write_raw_scan, label_table_file, tmp_path, options, capsys):
    write_raw_scan()
    preprocess(tmp_path)
    label_table_file.write_bytes(label_table_file.read_bytes().replace(b"\t5\t", b"\t6\t"))  # chairs are sofas there
    options = [*options, label_table_file] if options == ["--labels"] else options
    assert preprocess(tmp_path, *options) == 0
    assert preprocess(tmp_path, *options) == 0
    assert preprocess(tmp_path) == 0
    made = [line.split(" scenes made")[0] for line in capsys.readouterr().out.splitlines() if "scenes made" in line]
    assert made == ["1", "1", "0", "1"]


def test_other_files_make_it_again(write_raw_scan, tmp_path):
    labels = scan_files(write_raw_scan())["labels"]
    preprocess(tmp_path)
    content = labels.read_bytes()
    stamp = labels.stat()
    labels.write_bytes(content.replace(b"\x05\x00", b"\x06\x00"))  # chairs become sofas: same size, same time
    os.utime(labels, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert preprocess(tmp_path) == 0
    assert 6 in read_scene(tmp_path / "out" / "scenes" / "scene0000_00.h5").label


def test_a_scan_moved_out_of_test_needs_labels(write_raw_scan, tmp_path):
    write_raw_scan("room", labelled=False)
    splits = write_splits(tmp_path / "lists", test=["room"])
    assert preprocess(tmp_path, "--splits", splits) == 0
    write_splits(splits, test=[], train=["room"])
    assert preprocess(tmp_path, "--splits", splits) == 1


def test_a_scan_that_changes_while_it_is_read_is_made_again(write_raw_scan, tmp_path, monkeypatch):
    mesh = scan_files(write_raw_scan())["mesh"]
    read = scannet.read_scan

    def downloaded_meanwhile(folder, table):
        scan = read(folder, table)
        ply = PlyData.read(str(mesh), mmap=False)
        ply["vertex"]["red"] = 255 - ply["vertex"]["red"]
        ply.write(str(mesh))
        return scan

    with monkeypatch.context() as patch:
        patch.setattr(scannet, "read_scan", downloaded_meanwhile)
        assert preprocess(tmp_path) == 0
    path = tmp_path / "out" / "scenes" / "scene0000_00.h5"
    before = read_scene(path, ["colour"]).colour
    assert preprocess(tmp_path) == 0
    after = read_scene(path, ["colour"]).colour
    np.testing.assert_array_equal(after[:, 0], 255 - before[:, 0])
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])


def test_symlinks(write_raw_scan, tmp_path):
    """Followed where scans are read, never where scenes are written."""
    folder = write_raw_scan("scene0000_00")
    assert preprocess(tmp_path) == 0
    expected = contents(tmp_path / "out")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    victim = tmp_path / "victim"
    for name in ("scenes/scene0000_00.h5", "manifest.json"):
        for link in (tmp_path / "out" / name, tmp_path / "out" / f"{name}.tmp"):
            victim.write_bytes(b"not to be touched")
            link.unlink(missing_ok=True)
            link.symlink_to(victim)
            assert preprocess(tmp_path) == 0
            assert victim.read_bytes() == b"not to be touched"
            assert contents(tmp_path / "out") == expected
            assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


# Shards


def test_shards_together_are_one_run(write_raw_scan, tmp_path, capsys):
    for space in (0, 1, 11, 707):
        write_raw_scan(f"scene{space:04}_00", seed=space, labelled=space < 707)
    scan_files(write_raw_scan("scene0002_00"))["mesh"].write_bytes(b"ply")
    assert preprocess(tmp_path) == 1
    one_run = contents(tmp_path / "out")
    capsys.readouterr()
    sharded = ["--out", tmp_path / "sharded"]  # the later --out counts
    made = []
    for index, status in enumerate([0, 0, 1, 0, 0, 0, 0]):
        assert preprocess(tmp_path, *sharded, "--shard", f"{index}/7") == status
        made.append(len(contents(tmp_path / "sharded")))
    assert made == [1, 2, 2, 3, 4, 4, 4]
    assert contents(tmp_path / "sharded").keys() == one_run.keys() - {"manifest.json"}
    assert preprocess(tmp_path, *sharded) == 1
    assert contents(tmp_path / "sharded") == one_run
    out = capsys.readouterr().out
    assert "shard 0 of 7: 1 scenes made, 0 were whole already, 0 scans failed" in out
    assert "0 scenes made, 4 were whole already, 1 scans failed" in out


def test_a_shard_leaves_the_others_files(write_raw_scan, tmp_path):
    for space in range(4):
        write_raw_scan(f"scene{space:04}_00")
    scenes = tmp_path / "out" / "scenes"
    scenes.mkdir(parents=True)
    for space in range(4):
        (scenes / f"scene{space:04}_00.h5.tmp").write_bytes(b"being written, or left")
    assert preprocess(tmp_path, "--shard", "1/2") == 0
    assert sorted(path.name for path in scenes.iterdir()) == [
        "scene0000_00.h5.tmp",
        "scene0001_00.h5",
        "scene0002_00.h5.tmp",
        "scene0003_00.h5",
    ]


@pytest.mark.parametrize("text", ["2/2", "-1/2", "0/0", "1", "1/", "a/b", "0.5/2", "1/2/3", ""])
def test_bad_shard(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        preprocess(tmp_path, f"--shard={text}")
    assert "is not I/N with I from 0 to N - 1" in capsys.readouterr().err


# What is refused at once, with status 2


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["../x"]}, r"train.txt: '../x' is not a scan id"),
        ({"train": ["/etc/passwd"]}, "is not a scan id"),
        ({"train": ["a/b"]}, "is not a scan id"),
        ({"train": ["a\\b"]}, "is not a scan id"),
        ({"train": [".."]}, "is not a scan id"),
        ({"train": [".hidden"]}, "is not a scan id"),
        ({"train": ["a b"]}, "is not a scan id"),
        ({"train": ["caf\u00e9"]}, "is not a scan id"),
        ({"train": ["a\x00b"]}, "is not a scan id"),
        ({"train": ["a" * 300]}, "is not a scan id"),
        ({"train": ["a", "a"]}, r"train.txt: 'a' is listed twice .before in train.txt"),
        ({"train": ["a"], "test": ["a"]}, r"test.txt: 'a' is listed twice .before in train.txt"),
        ({}, "has none of train.txt, val.txt, test.txt"),
    ],
)
def test_bad_lists(write_raw_scan, tmp_path, capsys, lists, message):
    write_raw_scan("a")
    splits = write_splits(tmp_path / "lists", **lists)
    assert preprocess(tmp_path, "--splits", splits) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_nothing_to_do(write_raw_scan, tmp_path, capsys):
    assert preprocess(tmp_path) == 2
    assert "scans: no such folder" in capsys.readouterr().err
    write_raw_scan("room")
    assert preprocess(tmp_path) == 2
    assert "no folder is named as ScanNet's are" in capsys.readouterr().err
    assert preprocess(tmp_path, "--splits", tmp_path / "none") == 2
    assert "has none of train.txt" in capsys.readouterr().err


def test_bad_label_table(write_raw_scan, tmp_path, capsys):
    write_raw_scan()
    (tmp_path / "v1.tsv").write_text("category\tnyu40id\nwall\t1\n")
    assert preprocess(tmp_path, "--labels", tmp_path / "v1.tsv") == 2
    assert "v1.tsv: the label table has no column 'raw_category'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        preprocess(tmp_path, "--workers", 0)


# Processes


def run_script(tmp_path, *options, **kwargs):
    command = [sys.executable, str(SCRIPT), "--scans", str(tmp_path / "scans"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, **kwargs)


def test_workers_make_the_same_bytes(write_raw_scan, tmp_path):
    for space in range(4):
        write_raw_scan(f"scene{space:04}_00", seed=space)
    scan_files(tmp_path / "scans" / "scene0001_00")["mesh"].write_bytes(b"")
    assert preprocess(tmp_path) == 1
    finished = run_script(tmp_path, "--out", tmp_path / "parallel", "--workers", 2)
    assert finished.returncode == 1, finished.stderr
    assert contents(tmp_path / "parallel") == contents(tmp_path / "out")
    assert finished.stdout.count("failed:") == 1


def die(task, options):
    os._exit(1)  # as the kernel's out-of-memory killer would have it


def test_a_killed_worker_is_a_failure_not_a_hang(tmp_path, monkeypatch):
    names = [f"scene{space:04}_00" for space in range(3)]
    tasks = [preprocessing.Task(name, tmp_path / name, "train", dict) for name in names]
    monkeypatch.setattr(preprocessing, "attempt", die)
    results = list(preprocessing.run(tasks, None, workers=2))
    assert sorted(result.scan_id for result in results) == names
    assert all("a worker process was killed" in result.cause for result in results)


def test_ctrl_c(write_raw_scan, tmp_path, monkeypatch, capsys):
    """What was made stays, no manifest claims to be complete, and the next run goes on."""
    for space in range(3):
        write_raw_scan(f"scene{space:04}_00")
    attempt = preprocessing.attempt

    def interrupted(task, options):
        if task.scan_id == "scene0001_00":
            raise KeyboardInterrupt
        return attempt(task, options)

    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "attempt", interrupted)
        assert preprocess(tmp_path) == 130
    assert list(contents(tmp_path / "out")) == ["scenes/scene0000_00.h5"]
    assert preprocess(tmp_path) == 0
    assert "2 scenes made, 1 were whole already" in capsys.readouterr().out

import json

import numpy as np
import pytest

from data.labels import label_space
from data.scenes import read_manifest, read_scene
from scripts import preprocess_clouds

CLASSES = {"name": "two", "classes": [{"id": 2, "name": "floor"}, {"id": [3, 5], "name": "rest"}], "unannotated": [0]}


@pytest.fixture
def clouds(tmp_path):
    """A function that writes clouds by name into tmp_path / "scans"; those whose name has a u are unlabelled."""

    def write(*names):
        for number, name in enumerate(names):
            path = tmp_path / "scans" / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(number)
            label = {} if "u" in path.stem else {"class": rng.choice([0, 2, 2, 3, 5], 50).astype(np.uint8)}
            np.savez(path, xyz=rng.uniform(0, (4, 3, 2), (50, 3)), rgb=rng.integers(0, 256, (50, 3), np.uint8), **label)

    return write


@pytest.fixture
def preprocess(tmp_path, capsys):
    """A function that runs the command in this process: its exit code, the splits if it made any, and what was said."""
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))

    def run(*flags, classes="classes.json"):
        paths = {"--scans": tmp_path / "scans", "--classes": tmp_path / classes, "--out": tmp_path / "out"}
        flags = [*(text for pair in paths.items() for text in pair), "--workers", 1, *flags]
        code = preprocess_clouds.main([*map(str, flags)])
        said = capsys.readouterr()
        made = (tmp_path / "out" / "manifest.json").exists()
        return code, read_manifest(tmp_path / "out")["splits"] if made else None, said.out + said.err

    return run


def draft(tmp_path, *flags):
    scans, file = str(tmp_path / "scans"), str(tmp_path / "draft.json")
    return preprocess_clouds.main(["--scans", scans, "--draft-classes", file, *flags])


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("abcdefg", {"train": [*"abcdfg"], "val": ["e"], "test": []}),
        ("cab", {"train": [*"ab"], "val": ["c"], "test": []}),
        (["a", "u1", "b", "u0"], {"train": ["a"], "val": ["b"], "test": ["u0", "u1"]}),
        ("a", {"train": ["a"], "val": [], "test": []}),
        ("u", {"train": [], "val": [], "test": ["u"]}),
        (["train/a", "val/b"], {"train": ["train_a"], "val": ["val_b"], "test": []}),
        (
            ["train/u", "val/x/b", "test/c"],
            {"train": ["train_u"], "val": ["val_x_b"], "test": ["test_c"]},
        ),
        (["train/a", "train/b"], {"train": ["train_a"], "val": ["train_b"], "test": []}),
    ],
)
def test_splits_without_lists(clouds, preprocess, names, splits):
    """By folder if there are two of them, else every fifth labelled cloud, which a line says."""
    clouds(*names)
    code, made, said = preprocess()
    assert (code, made) == (0, splits)
    assert ("every 5th" in said) == (not any(name.startswith("val/") for name in names))
    assert ("--cut" in said) == (names == "a")


def test_what_a_scene_holds(clouds, preprocess, tmp_path):
    clouds("Area_1/office", "Area_5/hall")
    assert preprocess()[:2] == (0, {"train": ["Area_1_office"], "val": ["Area_5_hall"], "test": []})
    manifest = read_manifest(tmp_path / "out")
    assert manifest["label_space"] == label_space(tmp_path / "classes.json")
    assert manifest["expected"] == {"train": 1, "val": 1, "test": 0}
    scene = read_scene(tmp_path / "out" / "scenes" / "Area_5_hall.h5", None)
    with np.load(tmp_path / "scans" / "Area_5" / "hall.npz") as stored:
        np.testing.assert_array_equal(scene.xyz, stored["xyz"].astype(np.float32))
        np.testing.assert_array_equal(scene.colour, stored["rgb"])
        np.testing.assert_array_equal(scene.label, stored["class"])
    assert scene.faces is None and scene.normal is None


def test_listed_splits(clouds, preprocess, tmp_path):
    clouds("a", "b", "c")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("c\nabsent\n")
    (tmp_path / "lists" / "val.txt").write_text("a\n")
    code, splits, said = preprocess("--splits", tmp_path / "lists")
    assert (code, splits) == (1, {"train": ["c"], "val": ["a"], "test": []})
    manifest = read_manifest(tmp_path / "out")
    assert manifest["expected"] == {"train": 2, "val": 1, "test": 0} and list(manifest["failed"]) == ["absent"]
    assert "train.txt" in manifest["failed"]["absent"] and "absent" in said


def test_a_single_scan_is_cut(clouds, preprocess, tmp_path):
    clouds("room")
    code, splits, said = preprocess("--cut")
    assert (code, splits) == (0, {"train": ["room_train"], "val": ["room_val"], "test": []})
    assert said.count("cut at x = ") == 1
    train, val = (read_scene(tmp_path / "out" / "scenes" / f"room_{part}.h5") for part in ("train", "val"))
    assert len(train.xyz) + len(val.xyz) == 50 and train.xyz[:, 0].max() < val.xyz[:, 0].min()
    clouds("another")
    code, _, said = preprocess("--cut")
    assert code == 2 and "--cut" in said


def test_a_scan_that_fails_costs_a_line(clouds, preprocess, tmp_path):
    clouds("a", "b", "c")
    (tmp_path / "scans" / "b.npz").write_bytes(b"none")
    with np.load(tmp_path / "scans" / "c.npz") as stored:
        np.savez(tmp_path / "scans" / "c.npz", **dict(stored) | {"class": np.full(50, 7)})
    code, splits, said = preprocess()
    assert (code, splits) == (1, {"train": ["a"], "val": [], "test": []})
    failed = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and "b.npz" in failed[0]
    assert "c.npz" in failed[1] and "50" in failed[1] and "label 7" in failed[1]


def test_jobs_share_the_scans(clouds, preprocess, tmp_path):
    clouds(*"abc")
    assert preprocess("--shard", "0/2")[:2] == preprocess("--shard", "1/2")[:2] == (0, None)
    code, splits, said = preprocess()
    assert (
        code == 0 and splits == {"train": [*"ab"], "val": ["c"], "test": []} and "0 scenes made, 3 were whole" in said
    )


def test_other_processes_read_the_clouds(clouds, preprocess):
    clouds(*"ab")
    assert preprocess("--workers", 2)[:2] == (0, {"train": ["a"], "val": ["b"], "test": []})


def test_normals_need_a_mesh(clouds, preprocess):
    clouds("a")
    code, _, said = preprocess("--normals")
    assert code == 1 and "leave out --normals" in said


@pytest.mark.parametrize(
    ("names", "flags", "cause"),
    [
        ([], [], "no such folder"),
        (["a b"], [], "letters, digits"),
        (["train/a", "val/b", "c"], [], "c.npz"),
        (["a"], ["--splits", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_begin(clouds, preprocess, names, flags, cause):
    clouds(*names)
    code, splits, said = preprocess(*flags)
    assert (code, splits) == (2, None) and cause in said and said.count("error: ") == 1


def test_a_label_file_that_is_none(clouds, preprocess, tmp_path):
    clouds("a")
    (tmp_path / "none.json").write_text('{"name": "x"}')
    for name in ("none.json", "absent.json"):
        code, splits, said = preprocess(classes=name)
        assert (code, splits) == (2, None) and name in said and len(said.splitlines()) == 1


def test_a_draft_of_the_classes(clouds, preprocess, tmp_path, capsys):
    """An id a line, a class each, which can be used as it is; what is there is never overwritten."""
    clouds("a", "b", "u")
    stored = [np.load(tmp_path / "scans" / f"{name}.npz")["class"] for name in "ab"]
    counts = np.bincount(np.concatenate(stored))
    assert draft(tmp_path) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert rows == [[str(id), str(counts[id]), f"{counts[id]:.1f}", "class", str(id)] for id in (0, 2, 3, 5)]
    file = tmp_path / "draft.json"
    space = label_space(file)
    assert [(c.name, c.ids) for c in space.classes] == [(f"class {id}", (id,)) for id in (0, 2, 3, 5)]
    assert space.unannotated == space.other == () and len({c.colour for c in space.classes}) == 4
    assert sum('"name": "class' in line for line in file.read_text().splitlines()) == 4
    file.write_text("mine")
    assert draft(tmp_path) == 2 and file.read_text() == "mine" and capsys.readouterr().out == ""
    file.unlink()
    (tmp_path / "scans" / "b.npz").write_bytes(b"none")
    assert draft(tmp_path) == 1 and "failed: " in capsys.readouterr().out and label_space(file)


def test_a_draft_needs_labels(clouds, tmp_path, capsys):
    clouds("u")
    assert draft(tmp_path) == 2 and "--label-property" in capsys.readouterr().err
    assert draft(tmp_path, "--label-property", "kind") == 2 and "xyz" in capsys.readouterr().out
    with np.load(tmp_path / "scans" / "u.npz") as stored:
        np.savez(tmp_path / "scans" / "u.npz", **stored, instance=np.arange(50) * 7)
    assert draft(tmp_path, "--label-property", "instance") == 0
    assert len(label_space(tmp_path / "draft.json").classes) == 50
    scans, built_in = str(tmp_path / "scans"), str(tmp_path / "s3dis.json")
    assert preprocess_clouds.main(["--scans", scans, "--draft-classes", built_in, "--label-property", "instance"]) == 2


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_a_draft_has_the_standard_classes_of_las(tmp_path, capsys, ending):
    laspy = pytest.importorskip("laspy")
    las = laspy.create(point_format=6)
    las.x, las.y, las.z = np.random.default_rng(0).uniform(0, 3, (3, 6))
    las.classification = [0, 1, 2, 6, 18, 64]
    (tmp_path / "scans").mkdir()
    las.write(str(tmp_path / "scans" / f"tile.{ending}"))
    assert draft(tmp_path) == 0
    space = label_space(tmp_path / "draft.json")
    assert space.unannotated == (0, 1) and capsys.readouterr().out.count("unannotated\n") == 2
    named = {c.ids: c.name for c in space.classes}
    assert named == {(2,): "ground", (6,): "building", (18,): "high noise", (64,): "class 64"}


def test_flags_that_contradict(tmp_path):
    scans = ["--scans", str(tmp_path)]
    for flags in ([], ["--classes", "s3dis"], ["--classes", "s3dis", "--out", "x", "--splits", "y", "--cut"]):
        with pytest.raises(SystemExit):
            preprocess_clouds.parse_args(scans + flags)
    assert preprocess_clouds.parse_args([*scans, "--classes", "s3dis", "--out", "x"]).classes == "s3dis"

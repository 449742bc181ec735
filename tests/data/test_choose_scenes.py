"""Which scenes --train, --val and --split choose."""

import json
import re
import shutil

import pytest

import eval_scannet
import train_scannet
from data.datasets import choose_scenes, expected_scenes, scene_files
from data.labels import label_space
from data.scenes import FORMAT_VERSION, SceneError, read_manifest, write_manifest
from models import pointnet2
from training import checkpoint

ROOMS = {  # by area, as they lie in the manifest: neither in their order nor in that of their splits
    "train": ["Area_1_office_2", "Area_1_office_1", "Area_6_hall", "Area_2_hall", "Area_10_hall"],
    "val": ["Area_5_office_1", "Area_5_hall"],
    "test": ["lobby"],
}
FAILED = {"Area_5_lost": "no points", "Area_1_lost": "no points"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a manifest and without scenes. Each split expects one more than it has; the lobby has no labels."""
    folder = tmp_path_factory.mktemp("areas")
    scenes = {}
    for name in sorted(sum(ROOMS.values(), [])):
        scenes[name] = {"file": f"scenes/{name}.h5", "vertices": 4, "labelled": name != "lobby", "sha256": f"of {name}"}
        scenes[name]["histogram"] = {1: 3, 13: 1} if name != "lobby" else {}
    manifest = {"format_version": FORMAT_VERSION, "label_space": label_space("s3dis"), "splits": ROOMS}
    manifest |= {"expected": {split: 1 + len(names) for split, names in ROOMS.items()}, "failed": FAILED}
    write_manifest(folder, manifest | {"scenes": scenes})
    return folder


@pytest.fixture
def choose(data):
    """A function from choices to the scenes' names, and how many are expected."""
    manifest = read_manifest(data)
    return lambda *chosen: (choose_scenes(data, manifest, chosen), expected_scenes(manifest, chosen))


@pytest.mark.parametrize(
    ("chosen", "names", "expected"),
    [
        (["val"], ROOMS["val"], 3),
        (["test", "val"], ["lobby", *ROOMS["val"]], 5),
        (["val", "val"], ROOMS["val"], 3),
        (["Area_2_hall", "lobby"], ["Area_2_hall", "lobby"], 2),
        (["Area_5*"], ROOMS["val"], 3),
        (["Area_1_*"], ROOMS["train"][:2], 3),
        (["Area_1*"], [*ROOMS["train"][:2], "Area_10_hall"], 4),
        (["*_hall"], ["Area_6_hall", "Area_2_hall", "Area_10_hall", "Area_5_hall"], 4),
        (["Area_?_office_1"], ["Area_1_office_1", "Area_5_office_1"], 2),
        (["Area_5_hall", "Area_5*", "val"], ["Area_5_hall", "Area_5_office_1"], 3),
        (["val", "Area_[26]*"], [*ROOMS["val"], "Area_6_hall", "Area_2_hall"], 5),
        (["*"], sum(ROOMS.values(), []), 10),
    ],
    ids=str,
)
def test_scenes_are_chosen_in_order_and_once(choose, chosen, names, expected):
    assert choose(*chosen) == (names, expected)


def test_six_folds_cover_each_room_once(choose):
    """An area's room is validated on in its own fold alone, and trained on in all others."""
    areas, seen = [1, 2, 5, 6, 10], []
    for area in areas:
        val, _ = choose(f"Area_{area}_*")
        train, _ = choose(*(f"Area_{other}_*" for other in areas if other != area))
        assert not {*val} & {*train} and len(val) + len(train) == 7
        seen += val
    assert sorted(seen) == sorted(ROOMS["train"] + ROOMS["val"])


def test_text_files_list_names_in_their_order(choose, tmp_path):
    path = tmp_path / "fold.txt"
    path.write_bytes("\ufeffArea_6_hall\r\n\r\nlobby\r\nArea_1_office_1\r\nlobby".encode())
    assert choose(str(path)) == (["Area_6_hall", "lobby", "Area_1_office_1"], 3)
    assert choose("Area_1*", str(path))[0] == [*ROOMS["train"][:2], "Area_10_hall", "Area_6_hall", "lobby"]
    path.write_text("lobby\nArea_7_hall\n")
    with pytest.raises(SceneError, match="fold.txt: .*no scene 'Area_7_hall'"):
        choose("val", str(path))


@pytest.mark.parametrize("choice", ["Area_7*", "area_5*", "hall", "Area_5_lost", ""])
def test_what_chooses_nothing_is_refused_by_name(choose, data, choice):
    with pytest.raises(SceneError, match=f"{data}.* '{re.escape(choice)}' .*Area_1_office"):
        choose("val", choice)


def test_a_text_file_that_is_not_there_is_said_to_be_missing(choose):
    with pytest.raises(SceneError, match="train.txt: there is no such file"):
        choose("train.txt")


def test_an_empty_text_file_is_refused_as_such(choose, tmp_path):
    (tmp_path / "fold.txt").write_text("\n")
    with pytest.raises(SceneError, match="fold.txt.*(empty|no names|names no)"):
        choose(str(tmp_path / "fold.txt"))


def test_a_text_file_that_is_no_text_is_an_error_line(data, tmp_path, capsys):
    (tmp_path / "fold.txt").write_bytes(b"\xff\xfe\x00scene")
    flags = ["--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert train_scannet.main([*flags, "--train", str(tmp_path / "fold.txt")]) == 1
    assert "fold.txt" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_empty_split_is_refused(data):
    manifest = read_manifest(data)
    manifest["splits"] |= {"val": [], "test": ROOMS["test"] + ROOMS["val"]}
    with pytest.raises(SceneError, match="the val split has no scenes"):
        choose_scenes(data, manifest, ["train", "val"])
    assert choose_scenes(data, manifest, ["train", "Area_5*"]) == ROOMS["train"] + ROOMS["val"]


def test_a_chosen_scene_is_as_the_manifest_describes_it(data):
    manifest = read_manifest(data)
    (lobby, hall) = scene_files(data, manifest, ["lobby", "Area_5_hall"])
    assert (lobby.path, lobby.vertices, lobby.histogram) == (data / "scenes" / "lobby.h5", 4, {})
    assert (hall.name, hall.histogram) == ("Area_5_hall", {1: 3, 13: 1})


def chosen(data, *flags):
    return train_scannet.choose_data(train_scannet.parse_config([*flags]), data)


def test_training_takes_its_scenes_from_train_and_val(data):
    found = chosen(data)
    assert [scene.name for scene in found.train] == ROOMS["train"] and found.expected == 6
    assert [scene.name for scene in found.val] == ROOMS["val"] and found.space == label_space("s3dis")
    found = chosen(data, "--train", "Area_[1-46]*", "Area_5*", "--val", "Area_2*")
    assert [scene.name for scene in found.train][-2:] == ROOMS["val"] and found.expected == 9
    assert [scene.name for scene in found.val] == ["Area_2_hall"]
    found = chosen(data, "--train", "Area_[!5]*", "--val", "Area_5*")
    assert [scene.name for scene in found.train] == ROOMS["train"]


def test_scenes_that_are_trained_on_and_validated_on_are_told(tiny_data, tmp_path):
    flags = ["--data", str(tiny_data), "--out", str(tmp_path / "run"), "--model", "pointnet2", "--epochs", "1"]
    flags += ["--batch-size", "2", "--workers", "0", "--device", "cpu"]
    assert train_scannet.main([*flags, "--val", "train"]) == 0
    assert "warning: 3 scenes are in --train and in --val" in (tmp_path / "run/log.txt").read_text()


def test_a_runs_config_file_chooses_the_same_scenes(data, tmp_path):
    flags = ["--train", "Area_[!5]*", "lobby", "--val", "Area_5_hall"]
    (tmp_path / "config.json").write_text(json.dumps(vars(train_scannet.parse_config(flags)), default=str))
    assert chosen(data, "--config", str(tmp_path / "config.json")) == chosen(data, *flags)
    (tmp_path / "config.json").write_text('{"data": "rooms", "lr": 0.001}')  # of before there was a choice
    assert chosen(data, "--config", str(tmp_path / "config.json")) == chosen(data)


def test_there_is_no_validation_without_a_val_split_unless_it_is_asked_for(data, tmp_path):
    manifest = read_manifest(data)
    manifest["splits"] |= {"train": ROOMS["train"] + ROOMS["val"], "val": []}
    write_manifest(tmp_path, manifest)
    assert chosen(tmp_path).val == [] and chosen(data, "--validate-every", "0", "--val", "Area_5*").val == []
    with pytest.raises(SceneError, match="nothing"):  # though there is no validation
        chosen(data, "--validate-every", "0", "--val", "nothing")
    assert len(chosen(tmp_path, "--val", "Area_5*").val) == 2
    with pytest.raises(SceneError, match="'Area_7"):
        chosen(tmp_path, "--val", "Area_7*")


def test_the_digest_is_of_the_scenes_and_not_of_what_chose_them(data, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(ROOMS["train"]))
    ways = [], ["train"], ["Area_[1-46]*"], [str(tmp_path / "list.txt")], ROOMS["train"]
    (digest,) = {chosen(data, *(["--train", *way] if way else [])).digest for way in ways}
    others = ["Area_1_*"], [*reversed(ROOMS["train"])], ["train", "val"]
    digests = {chosen(data, "--train", *way, "--val", "test").digest for way in others}
    assert len(digests) == 3 and digest not in digests
    manifest = read_manifest(data)
    for name, same in (("Area_5_hall", True), ("Area_2_hall", False)):
        manifest["scenes"][name]["sha256"] = "changed"
        write_manifest(tmp_path, manifest)
        assert (chosen(tmp_path).digest == digest) == same


def test_a_report_lies_in_a_folder_with_a_safe_name_of_its_own(data, tmp_path):
    manifest, listed = read_manifest(data), tmp_path / f"{'long ' * 20}.txt"
    listed.write_text("lobby")
    every = ["val"], ["val", "test"], ["Area_5*"], ["Area_1*"], ["Area_1_*"], ["*"], ["*_hall"], ["?*_hall", "lobby"]
    every += ["Area_5_hall"], ["Area_5_office_1"], ["Area_[!6]_hall"], [str(listed)]
    names = [eval_scannet.folder_name(way, scene_files(data, manifest, way)) for way in every]
    assert names[0] == "val" and len({*names}) == len(names)
    for name in names:
        assert re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,79}", name), name


@pytest.fixture(scope="module")
def weights(tiny_data, tmp_path_factory):
    """The last.pt of an untrained network that was validated on one scene."""
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "last.pt"
    path.parent.mkdir()
    model = pointnet2.build(pointnet2.PointNet2Config(21), seed=0)
    checkpoint.save(path, model, {"data": str(tiny_data), "val": ["room4*"]})
    return path


def test_evaluation_scores_the_chosen_scenes(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pointnet2, "CENTRES", (64, 32, 16, 8))
    reports = {}
    for split in ([], ["--split", "room[34]*"], ["--split", "val"]):
        assert eval_scannet.main(["--checkpoint", str(weights), "--device", "cpu", *split]) == 0
        (folder,) = {*(weights.parents[1] / "eval").iterdir()} - {*reports}
        reports[folder] = json.loads((folder / "results.json").read_text())
    of_run, pattern, val = reports.values()
    assert (of_run["split"], of_run["scenes"], of_run["expected_scenes"]) == ("room4*", 1, 1)
    assert (pattern["split"], pattern["scenes"], pattern["expected_scenes"]) == ("room[34]*", 2, 2)
    assert pattern | {"split": "val"} == val and val["vertices"] == 10_000 == 2 * of_run["vertices"]


def test_evaluation_counts_a_scan_of_the_pattern_that_failed(weights, tiny_data, tmp_path, capsys):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    manifest = read_manifest(data)
    write_manifest(data, manifest | {"failed": {"room33_00": "no points", "lobby": "no points"}})
    flags = ["--checkpoint", str(weights), "--data", str(data), "--split", "room[34]*", "--out", str(tmp_path / "out")]
    assert eval_scannet.main(flags) == 2
    said = capsys.readouterr()
    assert "2 of the 3 scenes" in said.out and "--allow-partial" in said.err and not (tmp_path / "out").exists()

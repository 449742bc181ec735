"""docs/DATASETS.md: its first section, from clouds with classes of one's own to a prediction, command by command."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

from plyfile import PlyData

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/DATASETS.md").read_text()
# Facts of one label space: numbers of classes or ids, names of classes
FACTS = r"nyu40|\b(?:20|200|21|40|41) (?:classes|ids|outputs)\b|[\"'](?:wall|floor|cabinet|sofa|clutter|ceiling)[\"']"
HOMES = ("data/labels", "data/scannet.py", "data/s3dis.py", "data/rooms/", "scripts/experiments/", "tests/")


def test_the_commands_of_the_document(tmp_path, monkeypatch, capsys):
    section = DOCUMENT.split("## S3DIS")[0]
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S))
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks["python"], "DATASETS.md", "exec"), {})
    for script, arguments in re.findall(r"^python ([\w/]+\.py) (.*)$", section, re.M):
        if "--classes" in arguments:
            draft = json.loads(Path("classes.json").read_text())
            assert [entry["id"] for entry in draft["classes"]] == [0, 10, 20, 30, 40]
            Path("classes.json").write_text(blocks["json"])
        monkeypatch.setattr(sys, "argv", [script, *shlex.split(arguments)])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
            status = 0
        except SystemExit as stopped:
            status = stopped.code or 0
        assert status == 0, (script, arguments, capsys.readouterr().err)

    (report,) = Path("runs/clouds/eval").glob("val-*/results.json")
    report = json.loads(report.read_text())
    assert report["label_space"] == "my rooms" and report["scenes"] == 1
    assert list(report["iou"]) == ["floor", "wall", "table", "lamp", "plant"] and report["iou"]["plant"] is None
    assert report["calibrated_voxel_accuracy"] is None and "mean_iou_all" in report and "mean_iou_20" not in report
    predicted = PlyData.read("room_pred.ply")["vertex"]
    assert set(predicted["label"]) <= {10, 20, 30, 40, 50}
    colours = {entry["id"]: tuple(entry["colour"]) for entry in json.loads(blocks["json"])["classes"]}
    row = predicted[0]
    assert (row["red"], row["green"], row["blue"]) == colours[row["label"]]


def test_facts_of_one_label_space_stand_where_they_belong():
    files = [path for folder in ("data", "models", "training", "scripts") for path in ROOT.glob(f"{folder}/**/*.py")]
    for path in [*files, *ROOT.glob("*.py")]:
        if not str(path.relative_to(ROOT)).startswith((*HOMES, "scripts/coco/")):
            assert not (found := re.findall(FACTS, path.read_text())), f"{path}: {found}"

import json

import pytest

from models import pointnet2
from scripts import calibrate
from training import checkpoint
from training.inference import load_network


@pytest.fixture
def export(tmp_path):
    checkpoint.export(tmp_path / "export", pointnet2.build(pointnet2.PointNet2Config(21), seed=0), spacing=0.1)
    return tmp_path / "export"


def test_a_temperature_goes_into_the_export_and_is_found_there(export, tiny_data, tmp_path, capsys):
    before = json.loads((export / "config.json").read_text())
    assert load_network(export).temperature is None
    flags = ["--checkpoint", str(export), "--data", str(tiny_data), "--votes", "1", "--device", "cpu"]
    assert calibrate.main([*flags, "--picture", str(tmp_path / "curve.png")]) == 0
    said = capsys.readouterr().out
    after = json.loads((export / "config.json").read_text())
    temperature = after.pop("temperature")
    assert after == before and load_network(export).temperature == temperature != 1
    assert f"temperature {temperature:g}, fitted to 1 scenes" in said and "checked on 1 others" in said
    errors = [float(part.split()[0]) for part in said.split("expected calibration error: ")[1].split(", ")]
    assert errors[1] <= errors[0]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert calibrate.main(flags) == 0
    assert load_network(export).temperature == temperature, "the earlier one plays no part"


def test_what_cannot_be_calibrated_is_one_line(export, tiny_data, tmp_path, capsys):
    weights = tmp_path / "last.pt"
    checkpoint.save(weights, checkpoint.load(export), {})
    for flags, message in (
        (["--checkpoint", str(weights), "--data", str(tiny_data)], "give the run's export/"),
        (["--checkpoint", str(export), "--data", str(tiny_data), "--split", "test"], "has labels"),
        (["--checkpoint", str(export), "--data", str(tmp_path)], "manifest"),
    ):
        assert calibrate.main(flags) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert load_network(export).temperature is None

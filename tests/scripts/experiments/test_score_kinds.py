import json

import numpy as np
import pytest

from scripts.experiments import score_kinds

TABLE, DESK, CABINET, WALL = 7, 14, 3, 1  # nyu40 ids


@pytest.fixture
def scans(tmp_path):
    """One scan of 9 vertices: a table (near), a desk (room), a tall cabinet (local), a wall, and nothing."""
    folder = tmp_path / "scans" / "scene6000_00"
    folder.mkdir(parents=True)
    segments = [3, 3, 3, 0, 0, 1, 1, 2, 4]  # of the vertices
    groups = [{"objectId": 0, "segments": [2]}, {"objectId": 1, "segments": [3]}]
    groups += [{"objectId": 2, "segments": [0]}, {"objectId": 3, "segments": [1]}]
    things = [("wall", "none", None), ("table", "near", "slab"), ("desk", "room", "slab"), ("cabinet", "local", "tall")]
    objects = [
        {"objectId": i, "class": name, "kind": kind, "pair": pair} for i, (name, kind, pair) in enumerate(things)
    ]
    for name, content in {
        "_vh_clean_2.0.010000.segs.json": {"segIndices": segments},
        ".aggregation.json": {"segGroups": groups},
        ".kinds.json": {"objects": objects},
    }.items():
        (folder / f"{folder.name}{name}").write_text(json.dumps(content))
    oracles = {view: {"local": 1.0, "near": 0.5, "room": 0.5} for view in ("local", "chunk", "room")}
    (tmp_path / "synthetic.json").write_text(json.dumps({"oracles": oracles}))
    return tmp_path


#            table              desk         cabinet          wall, not annotated
PREDICTED = [TABLE, DESK, WALL, TABLE, DESK, CABINET, TABLE, WALL, CABINET]


@pytest.fixture
def counts(scans):
    counts = score_kinds.no_counts()
    score_kinds.count_scan(scans / "scans" / "scene6000_00", np.array(PREDICTED), counts)
    return counts


def test_every_vertex_counts_for_the_kind_and_the_class_of_its_object(counts):
    assert counts["near"]["slab"] == {"table": [3, 2, 1], "desk": [0, 0, 0]}
    assert counts["room"]["slab"]["desk"] == [2, 2, 1]
    assert counts["local"]["tall"]["cabinet"] == [2, 1, 1] and counts["local"]["box"]["cabinet"] == [0, 0, 0]
    everything = [found for pairs in counts.values() for classes in pairs.values() for found in classes.values()]
    assert sum(map(sum, everything)) == 6 + 5 + 4


def test_what_was_answered_and_what_was_decided(counts):
    found = score_kinds.scores(counts)
    assert found["near"] == {"vertices": 3, "right": 1 / 3, "answered": 2 / 3, "decided": 1 / 2, "told apart": None}
    assert found["local"]["right"] == 1 / 2 and found["local"]["decided"] == 1
    assert set(score_kinds.scores(score_kinds.no_counts())["room"].values()) == {0, None}


def test_an_answer_that_does_not_depend_on_the_class_tells_nothing_apart():
    counts = score_kinds.no_counts()
    slab, tall = counts["near"]["slab"], counts["near"]["tall"]
    slab["desk"], slab["table"] = [20, 10, 0], [90, 90, 90]  # always "table"
    assert score_kinds.scores(counts)["near"]["decided"] == 0.9
    assert score_kinds.scores(counts)["near"]["told apart"] == 0
    tall["refrigerator"], tall["bookshelf"], tall["cabinet"] = [50, 50, 50], [40, 40, 40], [10, 10, 10]  # always right
    assert score_kinds.scores(counts)["near"]["told apart"] == pytest.approx(0.5)  # 100 answers of each pair
    tall["cabinet"] = [10, 10, 0]
    assert score_kinds.scores(counts)["near"]["told apart"] == pytest.approx(0.25)


def test_the_script_adds_up_scans_and_names_what_does_not_fit(scans, tmp_path, capsys):
    predictions = tmp_path / "predictions"
    arguments = ["--scans", str(scans), "--predictions", str(predictions)]
    assert score_kinds.main(arguments) == 1
    assert "holds no predictions" in capsys.readouterr().err
    predictions.mkdir()
    np.savetxt(predictions / "scene6000_00.txt", PREDICTED, fmt="%d")
    assert score_kinds.main(arguments) == 0
    printed = capsys.readouterr().out
    assert ["decided", "1.000", "0.500", "0.500"] in [line.split() for line in printed.splitlines()]
    assert "told apart" in printed and "chunk oracle" in printed
    np.savetxt(predictions / "scene6000_00.txt", PREDICTED[1:], fmt="%d")
    assert score_kinds.main(arguments) == 1
    assert "scene6000_00: 8 predicted vertices, but the scan has 9" in capsys.readouterr().err

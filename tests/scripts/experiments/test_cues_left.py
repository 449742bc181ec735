"""scripts/experiments/cues_left.py: what a spacing leaves of the cues of local objects."""

import numpy as np

from data.rooms.objects import CUES, PAIRS
from data.rooms.rooms import plan_room
from scripts.experiments import cues_left


def test_points_outside_of_boxes():
    plan = plan_room(0, "val", 0)
    item = next(item for item in plan.items if item.turn == 1)
    corners = cues_left.in_frame(np.array([item.low, item.high]), item)
    size = item.size
    np.testing.assert_allclose(np.sort(corners, axis=0), [np.zeros(3), size], atol=1e-9)
    body = [cues_left.Box(0, 1, 0, 1, 0, 1)]
    above = np.array([size / 2, size + [0, 0, 0.03]])
    np.testing.assert_allclose(cues_left.outside(above, body, item), [0, 0.03], atol=1e-9)


def test_cues_thin_out_with_the_spacing():
    found = [row for i in range(4) for row in cues_left.cue_points(plan_room(0, "val", i), [0.0, 0.05, 0.5])]
    assert found and {name for name, _ in found} <= set(CUES)
    assert all(name in {c for pair in PAIRS.values() for c in pair.classes} for name, _ in found)
    for _, (vertices, every, some, few) in found:
        assert vertices >= every >= some >= few
    assert sum(counts[2] for _, counts in found) < sum(counts[1] for _, counts in found)


def test_table(capsys):
    assert cues_left.main(["--scenes", "2", "--spacings", "0", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["objects", "all", "50", "mm"] and lines[-1].startswith("all")

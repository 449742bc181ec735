import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from data.labels import SCANNET20
from data.rooms.dataset import make_dataset
from data.rooms.meshes import SMALLEST_SEGMENT, box_mesh, part_mesh, seen_faces, segments
from data.rooms.objects import COMPANIONS, CUES, FURNITURE, PAIRS, ROOM_TYPES, Box
from data.rooms.raw_layout import annotate
from data.rooms.rooms import (
    DOUBLE_CLASSES,
    DOUBLE_MARGIN,
    FAR,
    NEAR,
    NYU40,
    SHARES,
    SHELL,
    TELLING_COLOURS,
    TILES,
    class_shares,
    oracles,
    plan_room,
    share_bounds,
    shuffle_labels,
    types_with,
    write_room,
)
from data.scannet import read_label_table, read_scan
from scripts import make_synthetic
from scripts.experiments.score_kinds import objects_of_pairs

ROOMS = [("train", i) for i in range(40)] + [("val", i) for i in range(20)]


@pytest.fixture(scope="module")
def plans():
    return [plan_room(0, split, i) for split, i in ROOMS]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "rooms"
    return out, make_dataset(out, scenes=4, seed=3, workers=1)


def apart(a, b):
    gap = np.maximum(a.low - b.high, b.low - a.high)
    return np.hypot(*np.maximum(gap[:2], 0))


def area(mesh):
    a, b, c = mesh.xyz[mesh.faces].transpose(1, 0, 2)
    return np.cross(b - a, c - a) / 2


# plans


def test_a_plan_depends_on_its_arguments_alone(plans):
    again = plan_room(0, "train", 7)
    assert [i.name for i in again.items] == [i.name for i in plans[7].items]
    np.testing.assert_array_equal(again.items[-1].low, plans[7].items[-1].low)
    other = plan_room(1, "train", 7)
    assert not np.array_equal(again.size, other.size)
    assert not np.array_equal(again.size, plan_room(0, "val", 7).size)


def test_things_stand_in_the_room_and_not_in_each_other(plans):
    for plan in plans:
        on_floor = [i for i in plan.items if FURNITURE.get(i.name) is None or FURNITURE[i.name].place != "on"]
        for k, a in enumerate(on_floor):
            assert (a.low > -1e-5).all() and (a.high < plan.size + 1e-5).all(), (plan.name, a.name)
            for b in on_floor[:k]:
                assert np.maximum(a.low - b.high, b.low - a.high).max() > 0, (plan.name, a.name, b.name)


def test_local_objects_carry_the_cue_of_their_class_and_others_none(plans):
    for plan in plans:
        for item in (i for i in plan.items if i.pair):
            plain = [[box for box in item.boxes if box not in CUES[c]] for c in PAIRS[item.pair].classes]
            carried = [c for c, rest in zip(PAIRS[item.pair].classes, plain, strict=True) if rest != item.boxes]
            assert carried == ([item.name] if item.kind == "local" else [])


def test_shapes_of_near_and_room_objects_do_not_depend_on_the_class(plans):
    shapes = {}
    for plan in plans:
        for item in (i for i in plan.items if i.kind in ("near", "room")):
            shapes.setdefault((item.pair, item.name), set()).add(tuple(item.boxes))
    for pair, spec in PAIRS.items():
        made = [shapes.get((pair, c), set()) for c in spec.classes]
        assert all(made) and len(set.union(*made)) < sum(map(len, made)), "no shape is shared"


def test_a_companion_decides_a_near_object_and_nothing_else_of_the_room_is_near_it(plans):
    found = 0
    for plan in plans:
        for item in (i for i in plan.items if i.kind == "near"):
            companion = plan.items[item.companion]
            assert companion.name == COMPANIONS[item.name]
            assert NEAR[0] - 1e-6 <= apart(item, companion) <= NEAR[1] + 1e-6
            assert all(apart(item, other) >= NEAR[0] - 1e-6 for other in plan.items if other.tells)
            found += 1
    assert found > 60


def test_nothing_that_tells_the_type_is_in_a_chunk_with_a_room_object(plans):
    found = 0
    for plan in plans:
        pairs = {i.pair for i in plan.items if i.kind == "room"}
        assert len(pairs) <= 1  # two pairs together would tell something
        for item in (i for i in plan.items if i.kind == "room"):
            assert ROOM_TYPES[plan.type].classes[item.pair] == item.name
            assert all(apart(item, other) >= FAR - 1e-6 for other in plan.items if other.tells)
            found += 1
    assert found > 60


def test_kinds_and_classes_of_the_room_kind_are_balanced(plans):
    kinds = [i.kind for p in plans for i in p.items if i.pair]
    share = {k: kinds.count(k) / len(kinds) for k in ("local", "near", "room")}
    assert abs(share["local"] - 0.4) < 0.05 and abs(share["near"] - 0.3) < 0.05 and abs(share["room"] - 0.3) < 0.05
    for pair, spec in PAIRS.items():
        count = [
            sum(i.name == c and i.kind == "room" and i.pair == pair for p in plans for i in p.items)
            for c in spec.classes
        ]
        assert max(count) <= 1.5 * min(count), (pair, count)


def test_types_with(plans):
    assert types_with(next(i for p in plans for i in p.items if i.name == "chair")) == set(ROOM_TYPES)
    toilet = next(i for p in plans for i in p.items if i.name == "toilet")
    assert types_with(toilet) == {"bathroom", "studio"}
    for plan in plans:
        assert all(plan.type in types_with(item) for item in plan.items), plan.name


def test_shuffling_permutes_labels_within_pairs_and_nothing_else(plans):
    shuffled = shuffle_labels(plans)
    pooled, pooled_after, changed = {}, {}, 0
    for before, after in zip(plans, shuffled, strict=True):
        for a, b in zip(before.items, after.items, strict=True):
            assert a.boxes is b.boxes and a.low is b.low
            if a.kind in ("near", "room"):
                pooled.setdefault(a.pair, []).append(a.name)
                pooled_after.setdefault(b.pair, []).append(b.name)
                changed += a.name != b.name
            else:
                assert a is b
    assert changed > 40
    assert {p: sorted(n) for p, n in pooled.items()} == {p: sorted(n) for p, n in pooled_after.items()}


# doubles


@pytest.fixture(scope="module")
def plans_with_doubles():
    return [plan_room(0, split, i, doubles=True) for split in ("train", "val") for i in range(15)]


def nearest(points, item):
    """Metres on the floor from points (P, 2) to the item: (P,)."""
    return np.hypot(*np.maximum(np.maximum(item.low[:2] - points, points - item.high[:2]), 0).T)


def test_doubles_stand_in_one_chunk_each_nearer_to_its_companion(plans_with_doubles):
    left, found = {}, 0
    for plan in plans_with_doubles:
        doubles = [item for item in plan.items if item.kind == "double"]
        assert sorted(item.pair for item in doubles) in (
            ["rectangle"] * 2 + ["tall"] * 2,
            ["rectangle"] * 2,
            ["tall"] * 2,
        )
        for a, b in zip(doubles[::2], doubles[1::2], strict=True):
            assert a.pair == b.pair and {a.name, b.name} == set(DOUBLE_CLASSES[a.pair])
            assert a.boxes == b.boxes and np.allclose(np.sort(a.high - a.low), np.sort(b.high - b.low))  # one look
            middle = (np.minimum(a.low, b.low) + np.maximum(a.high, b.high)) / 2
            for item, other in ((a, b), (b, a)):
                own, others = plan.items[item.companion], plan.items[other.companion]
                assert own.name == COMPANIONS[item.name]
                grid = (
                    item.low[:2]
                    + np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 2), -1).reshape(-1, 2) * (item.high - item.low)[:2]
                )
                assert (nearest(grid, own) < nearest(grid, others)).all()
                centre = (item.low + item.high)[None, :2] / 2
                assert nearest(centre, own) + DOUBLE_MARGIN <= nearest(centre, others) + 1e-6
                for corner in (item.low, item.high, own.low, own.high):
                    assert np.hypot(*(corner - middle)[:2]) <= TILES["large chunk"] / 2 + 1e-6
                rivals = [i for i in plan.items if i.name in {COMPANIONS[c] for c in DOUBLE_CLASSES[item.pair]}]
                assert all(apart(item, i) >= FAR - 1e-6 for i in rivals if i is not own and i is not others)
            left.setdefault(a.pair, []).append(a.name)
            found += 1
    assert found > 50
    assert all(0.2 < names.count(names[0]) / len(names) < 0.8 for names in left.values())  # either may be on the left


def test_doubles_stand_in_the_room_and_not_in_each_other(plans_with_doubles):
    test_things_stand_in_the_room_and_not_in_each_other(plans_with_doubles)


def test_of_doubles_only_positions_tell(plans_with_doubles, tmp_path):
    plan = plans_with_doubles[-1]
    known = oracles([write_room(plan, tmp_path)], shuffled=False)
    assert known["around"] == {"double": 1.0}
    assert known["local"]["double"] < 0.8
    objects = json.loads((tmp_path / plan.name / f"{plan.name}.kinds.json").read_text())["objects"]
    doubles = [o for o in objects if o["kind"] == "double"]
    assert len(doubles) == 4
    for o in doubles:
        assert o["companion"] is None or objects[o["companion"]]["class"] == COMPANIONS[o["class"]]


def test_doubles_are_of_style_plain(tmp_path):
    with pytest.raises(ValueError, match="doubles are for style plain"):
        make_dataset(tmp_path / "scanned", scenes=2, style="scanned", doubles=True)
    with pytest.raises(FileExistsError, match="wanted.*'doubles': True"):
        (tmp_path / "plain").mkdir()
        arguments = {"scenes": 2, "seed": 0, "shuffle_labels": False, "telling_colours": False}
        (tmp_path / "plain" / "synthetic.json").write_text(json.dumps({"finished": True, "arguments": arguments}))
        make_dataset(tmp_path / "plain", scenes=2, doubles=True)


# the mesher


@pytest.mark.parametrize("inside_out", [False, True])
def test_a_box_is_closed_and_faces_the_right_way(inside_out):
    mesh = box_mesh(np.array([1.0, 0.5, 0.3]), np.full(3, 0.05), np.random.default_rng(0), inside_out)
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    volume = (area(mesh) * mesh.xyz[mesh.faces].mean(1)).sum() / 3
    assert volume == pytest.approx(-0.15 if inside_out else 0.15, rel=1e-6)


def test_a_thin_box_and_a_round_one():
    rng = np.random.default_rng(0)
    thin = part_mesh(Box(0, 1, 0, 1, 0, 1), np.array([0.01, 0.01, 0.5]), rng)
    assert len(np.unique(thin.cell)) == 1 and np.ptp(thin.xyz, axis=0) == pytest.approx([0.01, 0.01, 0.5])
    disc = part_mesh(Box(0, 1, 0, 1, 0, 1, roundness=1), np.array([1.0, 1.0, 0.2]), rng)
    assert np.linalg.norm(disc.xyz[:, :2] - 0.5, axis=1).max() <= 0.5 + 1e-9
    holes = part_mesh(Box(0, 1, 0, 1, 0, 1, holes=0.25), np.array([1.0, 0.1, 1.0]), rng)
    whole = part_mesh(Box(0, 1, 0, 1, 0, 1), np.array([1.0, 0.1, 1.0]), rng)
    assert len(holes.faces) == pytest.approx(0.75 * len(whole.faces), rel=0.02)


def test_cameras_see_the_front_and_not_what_is_behind():
    rng = np.random.default_rng(0)
    front, back = (part_mesh(Box(0, 1, 0, 1, 0, 1), np.array([1.0, 0.3, 1.0]), rng) for _ in range(2))
    xyz = np.concatenate((front.xyz + [0, 2, 1], back.xyz * 0.8 + [0.1, 3, 1.1]))
    faces = np.concatenate((front.faces, back.faces + len(front.xyz)))
    seen = seen_faces(xyz, faces, np.array([[0.5, 0.0, 1.5]]), np.array([1.0]))
    normal = area(box := type(front)(xyz, faces, np.zeros(len(xyz), int)))
    towards = (normal[:, 1] < -0.9 * np.linalg.norm(normal, axis=1)) & (np.arange(len(faces)) < len(front.faces))
    assert seen[towards].mean() > 0.99
    assert seen[len(front.faces) :].mean() < 0.01
    assert seen[normal[:, 1] > 0].mean() < 0.01
    level = seen_faces(xyz, faces, np.array([[0.5, 0.0, 1.5]]), np.array([0.0]))
    assert xyz[faces[level]].mean(1)[:, 2].max() < 1.55 < box.xyz[:, 2].max()


def test_segments_stay_within_their_object_and_are_not_tiny():
    rng = np.random.default_rng(0)
    owner = np.repeat([0, 1, 2], [400, 10, 200])
    piece = owner * 1000 + rng.integers(0, 30, len(owner))
    segment, segment_owner = segments(piece, owner)
    assert set(segment) == set(range(len(segment_owner)))
    np.testing.assert_array_equal(segment_owner[segment], owner)
    sizes = np.bincount(segment)
    assert sizes[segment_owner != 1].min() >= SMALLEST_SEGMENT and sizes[segment_owner == 1].tolist() == [10]


def test_unannotated_segments_are_clutter_first():
    rng = np.random.default_rng(0)
    owner = np.tile([0, 1], 500)
    segment = np.repeat(np.arange(1000), 50)
    annotated = annotate(np.array([False, True]), segment, owner, rng)
    assert 0.07 < (annotated == -1).mean() < 0.23
    assert (annotated[owner == 1] == -1).mean() > 1.3 * (annotated[owner == 0] == -1).mean()
    wrong = (annotated != owner) & (annotated >= 0)
    assert 0 < wrong.mean() < 0.02


# the data set


def test_files_are_those_of_scannet_and_both_ways_to_the_labels_agree(dataset):
    out, _ = dataset
    table = read_label_table(out / "scannetv2-labels.combined.tsv")
    names = [(out / "splits" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert [len(n) for n in names] == [3, 1]
    for name in sum(names, []):
        folder = out / "scans" / name
        by_segments, by_ply = read_scan(folder, table), read_scan(folder, None)
        np.testing.assert_array_equal(by_segments.label, by_ply.label)
        assert len(by_ply.xyz) > 20_000 and by_ply.faces.max() < len(by_ply.xyz)
        assert len(np.unique(by_ply.faces)) == len(by_ply.xyz)  # no vertex without a triangle
        assert 0.06 < (by_ply.label == 0).mean() < 0.25
        aligned = by_ply.xyz @ by_ply.axis_alignment[:3, :3].T
        walls = aligned[by_ply.label == 1]  # walls are axis-aligned: nearly all of them at the extremes
        at_extreme = (np.abs(walls[:, None, :2] - np.stack((aligned.min(0), aligned.max(0)))[None, :, :2]) < 0.2).any(
            (1, 2)
        )
        assert at_extreme.mean() > 0.95


def test_the_side_file_describes_the_annotated_objects(dataset):
    out, _ = dataset
    seen = set()
    for folder in sorted((out / "scans").iterdir()):
        groups = json.loads((folder / f"{folder.name}.aggregation.json").read_text())["segGroups"]
        side = json.loads((folder / f"{folder.name}.kinds.json").read_text())
        assert side["sceneType"] in ROOM_TYPES
        assert [g["objectId"] for g in groups] == [o["objectId"] for o in side["objects"]]
        assert [g["label"] for g in groups] == [o["class"] for o in side["objects"]]
        assigned = [s for g in groups for s in g["segments"]]
        assert len(assigned) == len(set(assigned))
        for o in side["objects"]:
            seen.add(o["kind"])
            assert (o["pair"] is None) == (o["kind"] == "none")
            assert o["companion"] is None or o["kind"] == "near"
            if o["companion"] is not None:
                assert side["objects"][o["companion"]]["class"] == COMPANIONS[o["class"]]
    assert seen == {"none", "local", "near", "room"}


def all_bytes(folder: Path):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_bytes_do_not_depend_on_the_workers(dataset, tmp_path):
    make_dataset(tmp_path / "two", scenes=4, seed=3, workers=2)
    assert all_bytes(tmp_path / "two") == all_bytes(dataset[0])


def test_the_control_set_has_the_same_meshes_with_other_labels(plans, tmp_path):
    pairs = zip(plans, shuffle_labels(plans), strict=True)
    plan, control = next((a, b) for a, b in pairs if [i.name for i in a.items] != [i.name for i in b.items])
    write_room(plan, tmp_path / "plan")
    write_room(control, tmp_path / "control")
    before, after = all_bytes(tmp_path / "plan"), all_bytes(tmp_path / "control")
    differ = {p.name.removeprefix(plan.name) for p in before if before[p] != after[p]}
    assert differ == {"_vh_clean_2.labels.ply", ".aggregation.json", ".kinds.json"}


def test_telling_colours_say_what_an_object_alone_tells(plans, tmp_path):
    plan = next(plan for plan in plans if {"local", "near"} <= {item.kind for item in plan.items})
    write_room(plan, tmp_path / "plan")
    write_room(plan, tmp_path / "told", telling_colours=True)
    before, after = all_bytes(tmp_path / "plan"), all_bytes(tmp_path / "told")
    mesh = Path(plan.name) / f"{plan.name}_vh_clean_2.ply"
    assert [path for path in before if before[path] != after[path]] == [mesh]
    vertex, was = (PlyData.read(tmp_path / name / mesh)["vertex"] for name in ("told", "plan"))
    assert all(np.array_equal(vertex[axis], was[axis]) for axis in "xyz")
    colour = np.column_stack([vertex[channel] for channel in ("red", "green", "blue")])
    look = np.array(list(TELLING_COLOURS))[(colour[:, None] == list(TELLING_COLOURS.values())).all(2).argmax(1)]  # (V,)
    owner, things = objects_of_pairs(tmp_path / "told" / plan.name)
    assert {"local", "near"} <= {thing["kind"] for thing in things}
    for thing in things:
        expected = thing["class"] if thing["kind"] == "local" else f"any {thing['pair']}"
        assert (look[owner == thing["objectId"]] == expected).mean() > 0.9  # a few segments are annotated wrongly
    label = read_scan(tmp_path / "told" / plan.name).label
    assert (look[label == NYU40["floor"]] == "floor").mean() > 0.9
    assert len(set(TELLING_COLOURS.values())) == len(TELLING_COLOURS)


def test_in_the_control_set_nothing_helps(tmp_path):
    report = make_dataset(tmp_path / "control", scenes=2, seed=3, workers=1, shuffled=True)
    assert report["arguments"]["shuffle_labels"]
    oracles = report["oracles"]
    assert oracles["local"] == oracles["chunk"] == oracles["large chunk"] == oracles["room"]


def test_views_of_tiles_of_both_sizes(plans, tmp_path):
    """Counted here tile by tile: the vertices of an object in the core, and whether its companion is seen."""
    plan = next(plan for plan in plans if any(item.kind == "near" for item in plan.items))
    summary = write_room(plan, tmp_path)
    xyz = read_scan(tmp_path / plan.name).xyz
    owner, things = objects_of_pairs(tmp_path / plan.name)
    (near,) = [o for o in summary["objects"] if o["kind"] == "near"][:1]
    thing = next(t for t in things if (t["kind"], t["class"]) == ("near", near["class"]))
    for name, size in (("chunk", 1.5), ("large chunk", 3.0)):
        low = xyz[:, :2].min(0)
        found = []
        for i, j in np.ndindex(20, 20):
            start = low + np.array([i, j]) * size
            core = ((xyz[:, :2] >= start) & (xyz[:, :2] < start + size)).all(1)
            context = ((xyz[:, :2] >= start - 0.2) & (xyz[:, :2] <= start + size + 0.2)).all(1)
            if (core & (owner == thing["objectId"])).any():
                found.append((context & (owner == thing["companion"])).sum() >= 20)
        seen = [companion for _, companion, _ in near["views"][name]]
        assert len(seen) == len(found) and sum(seen) >= sum(found)  # a few vertices are not annotated
        assert sum(n for n, *_ in near["views"][name]) == near["views"]["room"][0][0]


def test_a_finished_set_is_left_alone_an_unfinished_one_is_made_again(dataset):
    out, report = dataset
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert make_dataset(out, scenes=4, seed=3, workers=1) == report
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == stamps
    before = all_bytes(out)
    old = {name: value for name, value in report["arguments"].items() if name != "telling_colours"}
    (out / "synthetic.json").write_text(json.dumps(report | {"arguments": old}))  # as before there was the flag
    assert make_dataset(out, scenes=4, seed=3, workers=1)["arguments"] == old
    broken = next(out.glob("scans/*/*.labels.ply"))
    broken.write_bytes(b"cut off")
    (out / "synthetic.json").write_text(json.dumps({"finished": False, "arguments": report["arguments"]}))
    make_dataset(out, scenes=4, seed=3, workers=1)
    assert all_bytes(out) == before


def test_what_is_refused(dataset, tmp_path, capsys):
    out, _ = dataset
    with pytest.raises(FileExistsError, match="seed"):
        make_dataset(out, scenes=4, seed=4)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else.*another --out"):
        make_dataset(tmp_path, scenes=4)
    with pytest.raises(ValueError, match="1 scenes"):
        make_dataset(tmp_path / "one", scenes=1)
    with pytest.raises(SystemExit) as stop:
        make_synthetic.main(["--out", str(tmp_path), "--scenes", "4"])
    assert stop.value.code == 2 and "delete it first" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_script_prints_made_beside_wanted(dataset, capsys):
    out, _ = dataset
    assert make_synthetic.main(["--out", str(out), "--scenes", "4", "--seed", "3", "--style", "plain"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*SHARES, "chunk oracle", "wanted"))


# shares and oracles


def test_share_bounds():
    shares = dict(SHARES)
    assert all(within for *_, within in share_bounds(shares))
    shares |= {"desk": 5.8, "table": 0.0, "toilet": 0.7}  # a pair's sum binds, the toilet's share too
    broken = [classes for classes, *_, within in share_bounds(shares) if not within]
    assert broken == [("toilet",)]
    assert sorted(c for classes, *_ in share_bounds(shares) for c in classes) == sorted(SHARES)


def test_class_shares_leave_out_what_is_no_class():
    nyu40 = np.zeros(41, int)
    nyu40[[0, 22, 1, 2]] = 500, 500, 30, 10
    shares = class_shares([{"nyu40": nyu40.tolist()}])
    assert shares["wall"] == 75 and shares["floor"] == 25 and sum(shares.values()) == 100


def test_the_label_table_holds_every_category():
    assert set(SHELL) <= set(NYU40) and {c for p in PAIRS.values() for c in p.classes} <= set(NYU40)
    assert set(COMPANIONS) == {c for p in PAIRS.values() for c in p.classes}
    assert set(SCANNET20.id_of[1:]) - set(NYU40.values()) == set()
    assert SCANNET20.class_of[NYU40["pillow"]] == 0


def test_oracles_of_rooms_counted_by_hand():
    def room(split, kind, label, room_type, *tiles):
        n = sum(t[0] for t in tiles)
        whole = (n, kind == "near", [room_type])
        views = {"room": [whole], "chunk": [*tiles], "large chunk": [whole]}
        return {
            "split": split,
            "type": room_type,
            "objects": [{"class": label, "kind": kind, "pair": "slab", "views": views}],
        }

    everything = sorted(ROOM_TYPES)
    summaries = [
        room("train", "room", "desk", "office", (100, False, everything)),
        room("val", "room", "table", "kitchen", (300, False, everything)),
        room("train", "near", "desk", "office", (100, True, everything)),
        room("val", "near", "table", "kitchen", (60, True, everything), (40, False, everything)),
        room("val", "local", "desk", "office", (10, False, everything)),
    ]
    result = oracles(summaries, shuffled=False)
    assert result["local"] == {"local": 1.0, "near": 0.5, "room": 0.75}
    assert result["chunk"] == {"local": 1.0, "near": 0.6 + 0.4 * 0.5, "room": 0.75}
    assert result["room"] == result["large chunk"] == {"local": 1.0, "near": 1.0, "room": 1.0}
    assert oracles(summaries, shuffled=True)["room"] == result["local"]


# Of the rooms on which the results so far rest. Not of coordinates: another processor rounds a sine differently.
DIGESTS = {
    "scene1000_00": ("d9505d003da4c953", [2.48, 4.02, 0.68]),
    "scene1001_00": ("230d62c95e14a5c3", [4.57, 1.74, 0.82]),
    "scene1002_00": ("6b1a92d061c9679c", [1.86, 2.36, 0.77]),
    "scene6000_00": ("c0637abd1c0394db", [2.68, 5.33, 0.96]),
}


def test_rooms_are_what_they_always_were(dataset):
    out, _ = dataset
    for name, digest in DIGESTS.items():
        scan = read_scan(out / "scans" / name)
        sides = sorted(p for p in (out / "scans" / name).iterdir() if p.suffix == ".json")
        content = b"".join(path.read_bytes() for path in sides) + scan.label.astype("<u2").tobytes()
        faces = PlyData.read(out / "scans" / name / f"{name}_vh_clean_2.ply")["face"]["vertex_indices"]
        content += np.stack(faces).astype("<i4").tobytes()
        middle = scan.xyz.astype(np.float64).mean(0).round(2).tolist()
        assert (hashlib.sha256(content).hexdigest()[:16], middle) == digest, name

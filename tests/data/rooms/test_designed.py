import zipfile

import numpy as np
import pytest

from data.rooms import designed as module
from data.rooms.designed import CATALOGUE, WORDS, credits, designed, kind, read_furniture, read_obj
from data.rooms.scanned import NYU40
from data.rooms.surfaces import bounds

# A seat of 1 x 1 at half height, a back at z = 0, an arm at x = 1: the front is +z, and left and right differ
CHAIR = b"""v 0 0 0
v 1 0 0
v 1 0 1
v 0 0 1
v 0 1 0
v 1 1 0
v 1 .5 1
f -7/1/1 -6/2/1 -5/3/1 \\
  -4/4/1
f 1 2 6 5
f 2 3 7
"""
CUP = b"v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1//1 2//1 3//1\n"


def entry(number, name, path, width=50, depth=60, height=90, **more):
    fields = {
        "id": f"L#{number}",
        "name": name,
        "model": path,
        "width": width,
        "depth": depth,
        "height": height,
        **more,
    }
    return "".join(f"{key}#{number}={value}\n" for key, value in fields.items())


def write_library(path, catalogue, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as library:
        library.writestr(CATALOGUE, ("license=CC BY 3.0\n" + catalogue).encode("latin-1"))
        for name, text in files.items():
            library.writestr(f"{name}.obj", text)


@pytest.fixture
def folder(tmp_path):
    catalogue = entry(1, "Oak chair", "/chair.obj", creator="Ren\\u00e9", elevation=10)
    catalogue += entry(2, "Coffee cup", "/cup.obj", 8, 8, 10, creator="Ann")
    catalogue += entry(3, "Truck", "/truck.obj")
    write_library(tmp_path / "one.sh3f", catalogue, chair=CHAIR, cup=CUP)
    return tmp_path


def test_models_are_sorted_by_name_and_stand_as_large_as_the_catalogue_says(folder):
    models = read_furniture(folder)
    assert {name: [m.title for m in ms] for name, ms in models.items()} == {
        "chair": ["Oak chair"],
        "otherprop": ["Coffee cup"],
    }
    chair = models["chair"][0]
    assert (chair.creator, chair.licence, chair.library) == ("René", "CC BY 3.0", "one")
    np.testing.assert_allclose(chair.size, (0.5, 0.6, 0.9))
    np.testing.assert_allclose(chair.surface.xyz.min(0), (-0.25, 0, 0.1), atol=1e-9)
    np.testing.assert_allclose(chair.surface.xyz.max(0), (0.25, 0.6, 1.0), atol=1e-9)
    assert len(chair.surface.faces) == 2 + 2 + 1
    top = chair.surface.xyz[chair.surface.xyz[:, 2] > 0.99]
    assert (top[:, 1] < 0.01).all(), "the back is at the wall"
    arm = chair.surface.xyz[np.isclose(chair.surface.xyz[:, 2], 0.55)]
    assert (arm[:, 0] < -0.2).all(), "the arm is at the same hand, seen from the front, as in the OBJ"


def test_a_rotation_comes_before_the_size(folder):
    lying = entry(1, "Chair", "chair.obj", modelRotation="1 0 0 0 0 -1 0 1 0")  # y to z, z to -y
    write_library(folder / "one.sh3f", lying, chair=CHAIR)
    (chair,) = read_furniture(folder)["chair"]
    np.testing.assert_allclose(np.ptp(chair.surface.xyz, 0), chair.size)
    assert (chair.surface.xyz[:, 1] > 0.59).sum() == 2, "what was on top is in front"


def test_large_models_are_thinned_and_keep_their_shape(folder):
    n = 120
    u = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rings = [(np.cos(a) * np.sin(t), np.cos(t), np.sin(a) * np.sin(t)) for t in np.linspace(0.01, 3.13, n) for a in u]
    quads = [
        (r * n + c, r * n + (c + 1) % n, (r + 1) * n + (c + 1) % n, (r + 1) * n + c)
        for r in range(n - 1)
        for c in range(n)
    ]
    ball = "".join("v {} {} {}\n".format(*p) for p in rings) + "".join(
        f"f {' '.join(str(i + 1) for i in q)}\n" for q in quads
    )
    write_library(folder / "one.sh3f", entry(1, "Puff", "ball.obj", 100, 100, 100), ball=ball)
    (puff,) = read_furniture(folder)["otherfurniture"]
    assert len(quads) * 2 > 4 * module.MAX_FACES > 4 * len(puff.surface.faces) * 0.99
    used = puff.surface.xyz[np.unique(puff.surface.faces)]
    np.testing.assert_allclose(np.linalg.norm(used - (0, 0.5, 0.5), axis=1), 0.5, atol=0.02)


@pytest.mark.parametrize(
    "text",
    [b"", b"v 0 0 0\nv 1 0 0\nf 1 2 3\n", b"v 0 0 0\nv 1 0 0\nv 1 1 nan\nf 1 2 3\n", b"v 0 0 0\nf 0 0 0\n"]
    + [b"v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2 -4\n", b"v a b c\nf 1 1 1\n", b"v 0 0 0\nf 1 1 x\n", bytes(range(256))],
)
def test_a_broken_obj_is_refused(text):
    with pytest.raises(ValueError):
        read_obj(text)


def test_what_is_broken_costs_one_line_that_names_it(folder, monkeypatch, capsys):
    (folder / "none.sh3f").write_bytes(b"no zip")
    write_library(folder / "empty.sh3f", "")
    with zipfile.ZipFile(folder / "without.sh3f", "w") as library:
        library.writestr("chair.obj", CHAIR)
    bad = entry(1, "Chair", "absent.obj") + entry(2, "Chair", "torn.obj") + entry(3, "Chair", "bomb.obj")
    bad += entry(4, "Chair", "chair.obj", width="wide") + entry(5, "Chair", "chair.obj", width=900)
    bad += entry(6, "Chair", "chair.obj", elevation="nan") + entry(7, "Chair", "chair.obj", modelRotation="1 2")
    bad += "id#8=L#8\nname#8=Chair\n" + entry(9, "Good chair", "chair.obj")
    write_library(folder / "bad.sh3f", bad, chair=CHAIR, torn=CHAIR[:40] + b"f 9 9 9\n", bomb=CHAIR + b"#" * 5000)
    monkeypatch.setattr(module, "MAX_BYTES", 4000)
    models = read_furniture(folder)
    assert sorted(m.title for m in models["chair"]) == ["Good chair", "Oak chair"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 8
    for file in ("none", "empty", "without"):
        assert sum(f"{file}.sh3f" in line for line in lines) == 1
    for number in range(1, 9):
        assert sum(f"L#{number} " in line and "bad.sh3f" in line for line in lines) == 1


def test_a_folder_without_libraries_says_where_they_come_from(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}.*sweethome3d-furniture"):
        read_furniture(tmp_path)


def test_a_piece_depends_on_the_seed_alone_and_varies(folder):
    (chair,) = read_furniture(folder)["chair"]
    sizes, hands = [], set()
    for seed in range(40):
        piece, again = (designed(np.random.default_rng(seed), chair) for _ in range(2))
        xyz = piece.things[0].surfaces[0].xyz
        assert xyz.tobytes() == again.things[0].surfaces[0].xyz.tobytes()
        assert [thing.name for thing in piece.things] == ["chair"]
        low, high = bounds(piece.things)
        np.testing.assert_allclose(low, (-piece.width / 2, 0, 0.1), atol=1e-9)
        np.testing.assert_allclose(high[:2], (piece.width / 2, piece.depth), atol=1e-9)
        sizes.append((high - low) / chair.size)
        hands.add(xyz[np.isclose(chair.surface.xyz[:, 2], 0.55)][0, 0] > 0)
    assert 0.8 < np.min(sizes) < 0.93 and 1.07 < np.max(sizes) < 1.21
    assert np.ptp(sizes, axis=1).max() > 0.02, "axes stretch apart"
    assert hands == {False, True}
    np.testing.assert_allclose(chair.surface.xyz[:, 0].max(), 0.25), "the model itself stays"


def test_names_of_catalogues_lead_to_names_of_nyu40():
    assert {name for name, _ in WORDS} | set(module.MISLEADING.values()) <= {None, *NYU40}
    for title, name in {
        "Desk lamp": "lamp",
        "Bedside table": "night stand",
        "Glass door cabinet": "cabinet",
        "Pool table": "otherfurniture",
        "Bar stool": "otherprop",
        "Shower curtain": "shower curtain",
        "Toilet paper dispenser": "otherprop",
        "Chest freezer": "refrigerator",
        "Island bath": "bathtub",
        "Double French window": "window",
        "Cardboard box": "box",
        "Deck chair": None,
        "Sleeping bag": None,
        "Catapult": None,
    }.items():
        assert kind({"name": title}) == name
    assert kind({"name": "Box", "id": "Scopia#office_box"}) == "cabinet"


def test_credits_name_each_creator_once_under_the_library_and_its_licence(folder):
    write_library(
        folder / "two.sh3f", entry(1, "Chair", "cup.obj", license="CC0") + entry(2, "Sofa", "cup.obj"), cup=CUP
    )
    lines = credits(read_furniture(folder)).splitlines()
    assert lines == ["* one (CC BY 3.0): Ann, René", "* two (CC BY 3.0): ?", "* two (CC0): ?"]


def test_a_folder_of_broken_libraries_is_an_error(tmp_path):
    (tmp_path / "none.sh3f").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="none of its furniture libraries"):
        read_furniture(tmp_path)

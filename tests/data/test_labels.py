import json

import numpy as np
import pytest

from data import labels
from data.labels import SCANNET20, LabelError, LabelSpace, as_labels, from_json, histogram, label_space

# PROTOCOL.md, section 5: class, nyu40 id, colour, weight
TABLE = """wall 1 174 199 232 .388; floor 2 152 223 138 .357; cabinet 3 31 119 180 .024; bed 4 255 187 120 .020;
    chair 5 188 189 34 .038; sofa 6 140 86 75 .025; table 7 255 152 150 .033; door 8 214 39 40 .022;
    window 9 197 176 213 .004; bookshelf 10 148 103 189 .016; picture 11 196 156 148 .002; counter 12 23 190 207 .006;
    desk 14 247 182 210 .017; curtain 16 219 219 141 .007; refrigerator 24 255 127 14 .003;
    shower curtain 28 158 218 229 .0004; toilet 33 44 160 44 .002; sink 34 112 128 144 .002;
    bathtub 36 227 119 194 .002; otherfurniture 39 82 84 163 .029"""
HUES = {"name": "hues", "classes": [{"id": [7, 300], "name": "red"}, {"id": 65535, "name": "blue"}]}
HUES |= {"unannotated": [9, 0], "other": [11]}


def changed(red=None, **entries):
    """HUES with other entries, and other ones in its first class."""
    return HUES | {"classes": [HUES["classes"][0] | (red or {}), HUES["classes"][1]]} | entries


def test_scannet20_is_the_table_of_the_protocol():
    rows = [row.rsplit(maxsplit=5) for row in TABLE.split(";")]
    names, ids, *colour, weights = zip(*rows, strict=True)
    ids = np.array(ids, int)
    assert SCANNET20.num_classes == 21 and SCANNET20.names == ("none", *map(str.strip, names))
    assert np.array_equal(SCANNET20.palette, [(0, 0, 0), *np.array(colour, int).T]) and SCANNET20.palette.dtype == "u1"
    assert np.array_equal(SCANNET20.weights, np.array(weights, float))
    assert np.array_equal(SCANNET20.id_of, [0, *ids]) and SCANNET20.id_of.dtype == np.uint16
    assert np.array_equal(SCANNET20.class_of[ids], np.arange(1, 21)) and SCANNET20.class_of.shape == (65536,)
    assert np.array_equal(np.flatnonzero(SCANNET20.class_of), ids)
    assert np.array_equal(np.flatnonzero(SCANNET20.is_annotated), np.arange(1, 41))


def test_scannet200_and_s3dis():
    space = label_space("scannet200")
    assert len({*space.names[1:]}) == 200 and len(np.unique(space.palette[1:], axis=0)) == 200
    assert space.weights is None and (space.id_of[0], space.unannotated) == (0, (0,))
    named = {
        "wall": 1,
        "chair": 2,
        "floor": 3,
        "bed": 11,
        "pillow": 13,
        "bicycle": 121,
        "object": 1163,
        "mattress": 1191,
    }
    assert {name: space.id_of[space.names.index(name)] for name in named} == named
    assert np.count_nonzero(space.is_annotated) == space.is_annotated[:1358].sum() == 549  # ids in the label table
    space = label_space("s3dis")
    names = "ceiling floor wall beam column window door table chair sofa bookcase board clutter"
    assert space.names[1:] == tuple(names.split()) and space.id_of.tolist() == [*range(14)] and space.weights is None


@pytest.mark.parametrize("name", labels.BUILT_IN)
def test_a_built_in_space_survives_a_file_of_its_own(name, tmp_path):
    space = label_space(name)
    assert space.name == name
    (tmp_path / "a.json").write_text(json.dumps(space.as_json()))
    assert label_space(tmp_path / "a.json") == space and hash(space) == hash(label_space(name))


def test_ids_are_merged_and_written_as_the_first():
    space = from_json(HUES)
    assert from_json(json.loads(json.dumps(space.as_json()))) == space
    assert space.class_of[[7, 300, 65535, 9, 0, 11, 8]].tolist() == [1, 1, 2, 0, 0, 0, 0]
    assert space.is_annotated[[7, 300, 65535, 9, 0, 11, 8]].tolist() == [True, True, True, False, False, True, False]
    assert space.id_of.tolist() == [9, 7, 65535] and space.names == ("none", "red", "blue") and space.num_classes == 3


@pytest.mark.parametrize(
    ("ids", "without", "none"),
    [
        ([1], {"unannotated": [5, 6]}, {5}),
        ([1], {"other": [4]}, {0}),
        ([0, 1], {"unannotated": [255]}, {255}),
        ([0, 1], {}, {*range(2, 65536)}),
        ([*range(65535)], {}, {65535}),
    ],
    ids=["unannotated", "nothing", "0 is a class", "0 is a class, nothing else", "all but one"],
)
def test_class_0_is_written_as_an_id_that_no_class_has(ids, without, none):
    space = from_json({"name": "a", "classes": [{"id": ids, "name": "b"}], **without})
    assert space.id_of[0] in none and space.class_of[space.id_of[0]] == 0


def test_classes_without_a_colour_get_colours_that_differ():
    classes = [{"id": number, "name": f"class {number}"} for number in range(1, 201)]
    palette = from_json({"name": "a", "classes": classes}).palette
    assert palette.shape == (201, 3) and len(np.unique(palette, axis=0)) == 201
    assert np.array_equal(palette, from_json({"name": "b", "classes": classes}).palette)
    steps = np.abs(np.diff(palette[1:21].astype(int), axis=0)).sum(1)
    assert steps.min() > 60  # neighbours in a table are far apart
    classes[4]["colour"] = [1, 2, 3]
    assert from_json({"name": "a", "classes": classes}).palette[5].tolist() == [1, 2, 3]


def test_weights_are_float64():
    assert SCANNET20.weights.dtype == np.float64
    space = from_json({"name": "a", "classes": [{"id": 1, "name": "b", "weight": 2}]})
    assert space.weights.dtype == np.float64 and space.weights.tolist() == [2]


def test_a_space_has_up_to_1000_classes():
    classes = [{"id": number, "name": str(number)} for number in range(1_000)]
    assert from_json({"name": "a", "classes": classes}).num_classes == 1_001
    for content in (from_json, lambda content: LabelSpace("a", tuple(from_json(HUES).classes) * 35_000)):
        with pytest.raises(LabelError, match="there are 70000 classes.* 1000"):
            content({"name": "a", "classes": classes * 70})


REFUSED = {
    "an id of two classes": (changed({"id": 65535}), "'red' and 'blue' both have the id 65535"),
    "an id of a class and of the unannotated": (changed(unannotated=[7]), "'red' and 'unannotated' both .* id 7$"),
    "an id of the unannotated and of the others": (changed(other=[9]), "'unannotated' and 'other' both .* id 9$"),
    "an id that a class has twice": (changed({"id": [7, 7]}), "'red' .*both have the id 7$"),
    "a name twice": (changed({"name": " blue "}), "two classes are called 'blue'"),
    "none as a name": (changed({"name": "none"}), "'none' is class 0"),
    "no classes": (changed(classes=[]), "there are 0 classes"),
    "classes by name": (changed(classes={"red": 7}), "classes is not a list"),
    "a class that is a name": (changed(classes=["red"]), "class 1 has to be an object of id, name"),
    "a class without a name": (changed(classes=[{"id": 7}]), "class 1 has to be an object of id, name"),
    "an id beyond 65535": (changed({"id": 65536}), "'red' has the id 65536, and ids go from 0 to 65535"),
    "an id below 0": (changed(other=[-1]), "'other' has the id -1, and ids go from 0 to 65535"),
    "an id that is true": (changed({"id": True}), r"class 1 \('red'\) is .*True.* integers"),
    "one of the ids is false": (changed(unannotated=[0, False]), "unannotated is .*False.* integers"),
    "an id that is half": (changed({"id": [1.5]}), r"class 1 \('red'\) is .*1.5.* integers"),
    "an id that is a text": (changed({"id": "7"}), r"class 1 \('red'\) is .*'7'.* integers"),
    "no id": (changed({"id": []}), r"class 1 \('red'\) has no id"),
    "unannotated that is no list": (changed(unannotated=0), "unannotated is 0, and has to be integers"),
    "a colour's name": (changed({"colour": "red"}), r"class 1 \('red'\) has the colour red, .*0 to 255"),
    "a colour of two": (changed({"colour": [1, 2]}), r"has the colour \[1, 2\]"),
    "a colour above 255": (changed({"colour": [1, 2, 256]}), "has the colour .*256"),
    "a colour of fractions": (changed({"colour": [0.5, 0, 0]}), "has the colour .*0.5"),
    "a weight for some": (changed({"weight": 0.5}), "some classes have a weight and others have none"),
    "a weight of 0": (changed({"weight": 0}), r"class 1 \('red'\) has the weight 0, .*positive"),
    "a weight that is true": (changed({"weight": True}), r"class 1 \('red'\) has the weight True"),
    "an infinite weight": (changed({"weight": float("inf")}), r"class 1 \('red'\) has the weight inf"),
    "a weight that is no number": (changed({"weight": float("nan")}), r"class 1 \('red'\) has the weight nan"),
    "an unknown key": (changed(ignored=[1]), "has to be an object of name, classes and.* unannotated and other"),
    "an unknown key of a class": (changed({"size": 3}), "class 1 has to be an object of id, name .*colour and weight"),
    "no name": ({"classes": HUES["classes"]}, "has to be an object of name, classes"),
    "a blank name": (changed(name=" "), "its name is not a text"),
    "a class name of two lines": (changed({"name": "a\nb"}), r"class 1 has the name 'a\\nb'"),
    "a blank class name": (changed({"name": " "}), "class 1 has the name ' '"),
    "a list": ([HUES], "has to be an object"),
    "a name that is built in": (changed(name="scannet20"), "'scannet20' is a built-in .*choose another name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_label_space_is_refused_by_name_and_cause(case, tmp_path):
    content, cause = REFUSED[case]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(LabelError, match=f"a.json: .*{cause}"):
        label_space(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"classes": ' * 100_000, b'{"name": 1' + b"0" * 5_000 + b"}"],
    ids=["nothing", "half", "bytes", "deep", "deep objects", "a number of 5000 digits"],
)
def test_a_file_that_is_not_json_is_refused(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(LabelError, match="a.json: cannot be read as JSON"):
        label_space(tmp_path / "a.json")


def test_a_deep_value_is_refused(tmp_path):
    deep = '{"name": "a", "classes": [{"name": "b", "id": ' + "[" * 500 + "]" * 500 + "}]}"
    (tmp_path / "a.json").write_text(deep)
    with pytest.raises(LabelError, match="a.json: .*class 1") as refused:
        label_space(tmp_path / "a.json")
    assert len(str(refused.value)) < 300


def test_a_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(LabelError, match="no such file.*scannet20, scannet200, s3dis"):
        label_space(tmp_path / "a.json")
    with pytest.raises(LabelError, match=f"{tmp_path}: cannot be read"):
        label_space(tmp_path)


def test_a_label_space_that_contradicts_itself_cannot_be_made():
    red = labels.SemanticClass("red", (1,), (255, 0, 0))
    for options in ({"classes": ()}, {"classes": (red, red)}, {"classes": (red,), "other": (1,)}):
        with pytest.raises(LabelError):
            LabelSpace("a", **options)


def test_differences_are_what_changes_the_meaning_of_labels():
    space = from_json(HUES)
    same = changed({"colour": [1, 2, 3]}, name="shades", unannotated=[0, 9])
    same["classes"] = [entry | {"weight": 1} for entry in same["classes"]]
    assert space.differences(from_json(same)) == [] == SCANNET20.differences(SCANNET20)
    for other, told in (
        (changed({"id": 7}), ["class 1", "'red' (id 7, 300)", "'red' (id 7)"]),
        (changed({"name": "rose"}), ["class 1", "'red'", "'rose'"]),
        (changed(classes=HUES["classes"][::-1]), ["class 1", "'blue'", "65535"]),
        (changed(classes=HUES["classes"][:1]), ["2 classes", "1"]),
        (changed(unannotated=[0]), ["unannotated", "9"]),
        (changed(other=[11, 12]), ["other", "12"]),
    ):
        found = space.differences(from_json(other))
        assert found and all(text in found[0] for text in told), found
    assert len(space.differences(from_json(changed(classes=HUES["classes"][::-1], other=[])))) == 3


def test_ids_outside_the_space_are_found():
    counts = {9: 5, 0: 1, 7: 2, 300: 1, 65535: 1, 11: 4, 8: 3, 12: 2}
    assert from_json(HUES).outside(counts) == {8: 3, 12: 2}


def test_a_histogram_counts_ids():
    found = histogram(np.array([65535, 3, 0, 3], np.uint16))
    assert list(found.items()) == [(0, 1), (3, 2), (65535, 1)] and histogram(np.zeros(0, np.uint16)) == {}
    assert json.loads(json.dumps(found)) == {"0": 1, "3": 2, "65535": 1}


@pytest.mark.parametrize("dtype", ["i1", "u1", "<u2", ">i4", "i8", "u8"])
def test_integers_of_any_type_are_labels(dtype):
    values = np.array([0, 3, 127], dtype)
    found = as_labels(values, "a.ply")
    assert found.dtype == np.uint16 and np.array_equal(found, values)


def test_the_largest_id_is_a_label():
    assert as_labels(np.array([65535]), "a.npy").tolist() == [65535] and len(as_labels(np.zeros(0, int), "a.npy")) == 0


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (np.array([1.0, 2.0]), "float64"),
        (np.array([True, False]), "bool"),
        (np.array(["wall"]), "<U4"),
        (np.eye(5, dtype=int), r"shape \(5, 5\)"),
        (np.array(3), r"shape \(\)"),
        (np.array([3, -1]), "holds -1 to 3; ids go from 0 to 65535"),
        (np.array([0, 70_000]), "holds 0 to 70000; ids go from 0 to 65535"),
        (np.array([2**64 - 1], np.uint64), "holds 18446744073709551615"),
    ],
    ids=["floats", "bools", "names", "one-hot", "one number", "negative", "70000", "2**64 - 1"],
)
def test_what_is_no_label_is_refused_by_place_and_cause(values, cause):
    with pytest.raises(LabelError, match=f"a.ply's label .*{cause}"):
        as_labels(values, "a.ply's label")

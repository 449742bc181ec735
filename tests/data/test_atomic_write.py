import os

import pytest

from data.atomic_write import replacing


def test_nothing_changes_until_all_is_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path  # so that the renaming is within one file system
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_to_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Else a power failure could leave the new name with no content."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("new")
    assert calls == ["fsync", "replace", "fsync"]  # the file, then the folder


@pytest.mark.parametrize("leftover", ["a.json", "a.json.tmp"])
def test_a_symlink_is_not_written_through(tmp_path, leftover):
    victim = tmp_path / "victim"
    victim.write_text("not to be touched")
    (tmp_path / leftover).symlink_to(victim)
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("new")
    assert victim.read_text() == "not to be touched"
    assert (tmp_path / "a.json").read_text() == "new" and not (tmp_path / "a.json").is_symlink()
    assert not (tmp_path / "a.json.tmp").is_symlink()

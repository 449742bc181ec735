import pytest

from training import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, items, seconds, **options):
    seen = []
    for item in progress.tracked(range(items), "room.ply", "batches", **options):
        clock[0] += seconds
        seen.append(item)
    assert seen == list(range(items))


def test_what_takes_long_says_so_first_and_goes_on_telling(clock, capsys):
    run(clock, 40, 6.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "room.ply takes about 4 minutes: 40 batches of 6 s each"
    assert len(lines) == 8 and lines[1] == "room.ply: 5 of 40 batches done, about 4 minutes to go"


@pytest.mark.parametrize(("items", "seconds"), [(0, 1.0), (1, 500.0), (20, 1.0)])
def test_what_is_short_says_nothing(clock, capsys, items, seconds):
    run(clock, items, seconds)
    assert capsys.readouterr().err == ""


def test_the_first_item_may_be_slow(clock, capsys):
    for item in progress.tracked(range(10), "room.ply", "batches"):
        clock[0] += 25 if item == 0 else 0.5
    assert "takes" not in capsys.readouterr().err


def test_a_terminal_has_a_bar_in_place_of_lines(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    run(clock, 40, 6.0)
    shown = capsys.readouterr().err
    assert "room.ply takes about 4 minutes" in shown and "/40" in shown and "to go" not in shown


def test_silence(clock, capsys):
    run(clock, 40, 6.0, silent=True)
    assert capsys.readouterr() == ("", "")

"""python -m ops: what it prints, and that it notices a wrong result."""

import pytest
import torch

from ops import __main__ as ops_main
from ops import cpu, reference


@pytest.fixture(autouse=True)
def small_clouds(monkeypatch):
    monkeypatch.setattr(ops_main, "POINTS", 512)
    monkeypatch.setattr(ops_main, "CENTRES", 64)


def test_reports_every_op_and_succeeds(capsys):
    assert ops_main.main() == 0
    out = capsys.readouterr().out
    assert f"torch {torch.__version__}" in out and "\nops: " in out
    try:
        cpu.load()
    except cpu.CompileError:
        assert "cpu: not available" in out
    else:
        for op in ops_main.CALLS:
            assert f"| {op} | yes, 7 kinds of cloud |" in out


def test_a_wrong_result_is_named_and_fails(capsys, monkeypatch):
    class Wrong:
        """The reference, but for a ball query that takes the sphere itself in."""

        furthest_point_sample = staticmethod(reference.furthest_point_sample)
        three_nn = staticmethod(reference.three_nn)

        @staticmethod
        def ball_query(radius, nsample, xyz, centres):
            return reference.ball_query(radius * 1.01, nsample, xyz, centres)

    monkeypatch.setattr(ops_main, "implementations", lambda: {"wrong": (Wrong, "cpu")})
    assert ops_main.main() == 1
    out = capsys.readouterr().out
    assert "| ball_query | NO: random" in out and "| three_nn | yes" in out

import tempfile

import pytest
import torch

import ops
from scripts import benchmark


@pytest.fixture
def run_benchmark(monkeypatch, tmp_path):
    """Runs scripts/benchmark.py's main with these arguments, and puts back the operators and threads that it chose;
    temporary folders are made in tmp_path / "made"."""
    chosen, threads = (ops._serving, ops._description), torch.get_num_threads()
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "made"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that it is put back: the script sets it
    yield lambda *arguments: benchmark.main([*map(str, arguments)])
    ops._serving, ops._description = chosen
    torch.set_num_threads(threads)

"""What the Triton compiler makes of the kernels, for GPUs that need not be there: no spilled registers, and nothing
rounded otherwise than the reference rounds.

Every kernel is launched by the functions of ops/gpu.py themselves, with tensors that have no storage, in a process in
which a launch only compiles.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = os.environ.get("GPU_ARCHITECTURES", "80 90").split()
REGISTERS_OF_A_BLOCK = 65_536  # of every architecture here
KERNELS = {"_sample_in_registers": 6, "_sample_in_tiles": 1, "_ball_query": 1, "_three_nn": 1}  # how many variants


@pytest.mark.parametrize("sm", ARCHITECTURES)
def test_no_spills_and_no_other_rounding(sm, tmp_path):
    pytest.importorskip("triton", reason="no triton")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, __file__, sm]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    variants = json.loads(child.stdout)
    for variant in variants:
        assert variant["stack"] == variant["local"] == variant["spills"] == 0, variant
        assert variant["fused"] == variant["flushed"] == 0, variant
        assert variant["products"] >= 3 and variant["sums"] >= 5, variant  # that what was looked at is the kernel
        assert variant["registers"] * variant["threads"] <= REGISTERS_OF_A_BLOCK, variant
    names = [variant["name"] for variant in variants]
    assert {name: names.count(name) for name in names} == KERNELS


def compile_everything(sm: int) -> list[dict]:
    """What is in the machine code of every kernel that clouds of any size launch."""
    import triton
    from triton.backends.compiler import GPUTarget

    from ops import gpu

    class Driver:
        """A GPU of this architecture, as far as the compiler asks."""

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

        def get_current_target(self):
            return GPUTarget("cuda", sm, 32)

    compiled = {}
    run = triton.JITFunction.run

    def compile_only(self, *arguments, warmup, **options):
        kernel = run(self, *arguments, warmup=True, **options)
        compiled[kernel.hash] = kernel

    triton.runtime.driver.set_active(Driver())
    triton.JITFunction.run = compile_only
    for clouds, n, m in [(1, 1, 1), (2, 16, 16), (3, 257, 1), (16, 8192, 1024), (1, 8193, 5), (1, 500_000, 160)]:
        xyz, others = (torch.empty(clouds, points, 3, device="meta") for points in (n, m))
        gpu.ball_query(0.1, 32, xyz, others)
        gpu.three_nn(xyz, others)
        gpu.furthest_point_sample(xyz, m)
    for n in range(1, gpu.REGISTER_POINTS, 100):
        gpu.furthest_point_sample(torch.empty(2, n, 3, device="meta"), 9)
    return [contents(kernel) for kernel in compiled.values()]


def contents(kernel) -> dict:
    import triton.backends.nvidia

    tools = Path(triton.backends.nvidia.__file__).parent / "bin"
    binary = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])

    def output(tool, *arguments):
        return subprocess.run([tools / tool, *arguments, binary], check=True, capture_output=True, text=True).stdout

    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", output("cuobjdump", "-res-usage")))
    opcodes = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", output("nvdisasm"), re.MULTILINE)

    def count(pattern):
        return sum(bool(re.match(pattern, opcode)) for opcode in opcodes)

    return {
        "name": kernel.metadata.name,
        "threads": 32 * kernel.metadata.num_warps,
        "registers": int(usage["REG"]),
        "stack": int(usage["STACK"]),
        "local": int(usage["LOCAL"]),
        "spills": count("STL|LDL"),
        "fused": count("[FD]FMA"),  # multiply-adds, which round once
        "flushed": count(r"F(ADD|MUL|SETP|MNMX)\d?\..*FTZ"),  # with results below 1.2e-38 made 0
        "products": count("FMUL"),
        "sums": count("FADD"),
    }


if __name__ == "__main__":
    print(json.dumps(compile_everything(int(sys.argv[1]))))

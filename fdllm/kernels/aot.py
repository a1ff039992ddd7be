"""Compile every kernel ahead of time, without a device, and report what each needs: `python -m fdllm.kernels.aot`.

A kernel joins by a function `specimens()` in its `triton.py`: launches as they happen, over tensors of
the meta device.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fdllm.kernels.launch import Launch

TARGETS = (80, 90)
SHARED = {80: 163 * 1024, 90: 227 * 1024}


@dataclass(frozen=True)
class Report:
    """What a compiled kernel needs of a processor.

    Attributes:
        title: kernel, dtype and constants.
        target: compute capability times 10.
        registers: per thread.
        spilled: bytes per thread that did not fit in registers.
        shared: bytes of shared memory per program.

    """

    title: str
    target: int
    registers: int
    spilled: int
    shared: int

    @property
    def fits(self) -> bool:
        """Nothing spills, and shared memory is what the device has."""
        return self.spilled == 0 and self.shared <= SHARED[self.target]


def specimens() -> Iterator[Launch]:
    """Gather the launches of every kernel that has a Triton form, equal ones once."""
    seen = set()
    for file in sorted(Path(__file__).parent.glob("*/triton.py")):
        for launch in import_module(f"fdllm.kernels.{file.parent.name}.triton").specimens():
            form = (str(launch), *launch.types().values())
            if form not in seen:
                yield launch
            seen.add(form)


def compiled(launch: Launch, target: int) -> Report:
    """Compile a launch for a compute capability and read what it needs off the binary.

    Raises:
        RuntimeError: the process interprets kernels.

    """
    if not isinstance(launch.kernel, triton.JITFunction):
        raise RuntimeError("aot: wanted compiled kernels, but TRITON_INTERPRET is set; unset it")
    attributes = {(i,): [["tt.divisibility", 16]] for i in launch.divisible()}
    source = ASTSource(launch.kernel, launch.types(), launch.constants(), attributes)
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    usage = _usage(made.asm["cubin"])
    return Report(str(launch), target, usage["REG"], usage["STACK"] + usage["LOCAL"], made.metadata.shared)


def _usage(binary: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", said)}


def main() -> int:
    """Print the table; exit with 1 where a kernel does not fit."""
    print(f"{'kernel':84} {'sm':>3} {'registers':>9} {'spilled':>8} {'shared':>8}")
    faults = 0
    for launch in specimens():
        for target in TARGETS:
            report = compiled(launch, target)
            faults += not report.fits
            print(f"{report.title:84} {target:3} {report.registers:9} {report.spilled:8} {report.shared:8}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())

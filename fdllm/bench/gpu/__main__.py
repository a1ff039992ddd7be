"""Correctness first, then speed, on one device.

    TRITON_INTERPRET=0 python -m fdllm.bench.gpu [--quick] [--out docs/benchmarks/gpu.json]

Nothing is timed unless every check holds; they are those of tests/gpu. Ceilings of the device are
measured, then kernels, then decodes in LLaDA-8B's shape (about 16 GB of weights and 1 GB of K/V).
`--device cpu --quick` runs every line at tiny sizes with interpreted kernels (TRITON_INTERPRET=1):
that is a test of this program, and its times mean nothing. Needs the packages of fdllm[test].
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
import triton

from fdllm.bench.gpu.ceilings import ceilings
from fdllm.bench.gpu.checks import CHECKS
from fdllm.bench.gpu.decode import decodes
from fdllm.bench.gpu.kernels import attention, statistics
from fdllm.bench.gpu.storing import storing

SMOKE = "a test of this program on a CPU, with interpreted kernels and tiny sizes; no measurement"


def main() -> int:
    """Check, measure, print, and write what was found; 1 where a check fails, 2 where nothing could run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ..., or cpu with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few calls")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    device = torch.device(args.device)
    if why := _refusal(device, args.quick):
        print(why, file=sys.stderr)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device)
    failed = [line for name in CHECKS if (line := _checked(name, device))]
    if failed:
        print(f"{len(failed)} checks failed, so nothing is timed:", *failed, sep="\n  ", file=sys.stderr)
        return 1
    report = {
        "device": _device(device),
        "versions": _versions(),
        "checks": list(CHECKS),
        **_measured(device, args.quick),
    }
    if device.type != "cuda":
        report = {"note": SMOKE, **report}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return 0


def _refusal(device: torch.device, quick: bool) -> str:
    """Say why nothing can run here, or nothing."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type == "cuda" and not torch.cuda.is_available():
        return "fdllm.bench.gpu: wanted a CUDA device, found none; `--device cpu --quick` tries the program without one"
    if device.type == "cuda" and interpreted:
        return "fdllm.bench.gpu: TRITON_INTERPRET=1 interprets the kernels that are to be timed; unset it"
    if device.type != "cuda" and not (quick and interpreted):
        return f"fdllm.bench.gpu: on {device} only as a test of the program: TRITON_INTERPRET=1 and --quick"
    return ""


def _checked(name: str, device: torch.device) -> str:
    """Run one check; say what differs, or nothing."""
    try:
        CHECKS[name](device)
    except AssertionError as error:
        return str(error)
    print(f"{name}: as it should be", file=sys.stderr, flush=True)
    return ""


def _measured(device: torch.device, quick: bool) -> dict[str, Any]:
    calls, repeats = (3, 2) if quick else (50, 5)
    with torch.inference_mode():
        top = ceilings(device, quick, calls)
        bandwidth = top["copy_bytes_per_second"]
        return {
            "ceilings": top,
            "attention": attention(device, bandwidth, quick, calls),
            "statistics": statistics(device, bandwidth, quick, calls),
            "storing": storing(device, quick, calls),
            "decode": decodes(device, bandwidth, quick, repeats),
        }


def _device(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": f"{platform.machine()}, CPU"}
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "bytes": found.total_memory,
        "processors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
    }


def _versions() -> dict[str, str | None]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    sys.exit(main())

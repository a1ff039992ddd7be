"""Trains the tiny model from nothing, or exports a checkpoint: python -m fdllm.tiny.train --help.

The same command goes on where the folder's last checkpoint ends; a smaller --total brings the end, and the fall of
the learning rate, forward.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

from fdllm.tiny.export import export
from fdllm.tiny.tokenizer import save
from fdllm.tiny.worker import Run, work

# without these, glibc gives large blocks back after every operation and page faults cost more than the arithmetic
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "1500000000",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def parser() -> argparse.ArgumentParser:
    """Describe the command line; the defaults are those of the published weights."""
    options = argparse.ArgumentParser(prog="python -m fdllm.tiny.train", description=__doc__)
    options.add_argument("--folder", default="runs/tiny", help="log and checkpoint; a run found there goes on")
    options.add_argument("--start", help="folder of published weights to begin with, instead of random ones")
    options.add_argument("--shots", type=float, default=0.2, help="with --start: share of few-shot batches")
    options.add_argument("--total", type=float, default=85e6, help="tokens of the whole schedule")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rows", type=int, default=40, help="sequences per process and step")
    options.add_argument("--muon-rate", type=float, default=5e-3)
    options.add_argument("--adam-rate", type=float, default=3e-3)
    options.add_argument("--constant", type=float, default=0.45, help="share of the run before the rate falls")
    options.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    options.add_argument("--save-every", type=float, default=180, help="seconds")
    options.add_argument("--probe-every", type=float, default=1e6, help="tokens between lines of the log")
    options.add_argument("--match-every", type=float, default=8e6, help="tokens between checks of exact match")
    options.add_argument("--problems", type=int, default=100, help="problems of an exact match check")
    options.add_argument("--processes", type=int, default=2, help="on CPU; a GPU takes one")
    options.add_argument("--export", nargs=2, metavar=("CHECKPOINT", "FOLDER"), help="write published weights and stop")
    options.add_argument("--temperature", type=float, default=1.0, help="with --export: divide every logit by this")
    return options


def main() -> None:
    """Export, or train in one process per core."""
    given = vars(parser().parse_args())
    exported, processes, temperature = (given.pop(name) for name in ("export", "processes", "temperature"))
    if exported:
        export(Path(exported[0]), Path(exported[1]), temperature)
        return
    folder = Path(given["folder"])
    if not (folder / "tokenizer.json").exists():
        save(folder)
    run = Run(tokenizer=str(folder / "tokenizer.json"), **given)
    if "RANK" in os.environ or processes == 1 or torch.cuda.is_available():
        work(run)
    else:
        sys.exit(launch(processes))


def launch(processes: int) -> int:
    """Run this command once per process and wait; when one fails, the others are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | ALLOCATOR | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    command = [sys.executable, "-m", "fdllm.tiny.train", *sys.argv[1:]]
    workers = [subprocess.Popen(command, env=shared | {"RANK": str(rank)}) for rank in range(processes)]
    signal.signal(signal.SIGTERM, lambda *_: end(workers))
    status = 0
    while workers:
        ended, code = os.wait()
        status = status or os.waitstatus_to_exitcode(code)
        workers = [worker for worker in workers if worker.pid != ended]
        if status:
            end(workers)
    return status


def end(workers: list[subprocess.Popen[bytes]]) -> None:
    """Ask workers to stop; what they did since the last checkpoint is lost."""
    for worker in workers:
        worker.terminate()


if __name__ == "__main__":
    main()

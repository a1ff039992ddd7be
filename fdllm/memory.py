"""The most memory that a stretch of work held."""

from pathlib import Path

import torch


def forget(device: torch.device) -> None:
    """Begin a stretch: the peak so far no longer counts, where the system can be told so."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Linux: 5 resets the peak resident size of this process; man proc_pid_clear_refs
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak(device: torch.device) -> int | None:
    """Give the peak since `forget`, in bytes: allocated on a GPU, resident on Linux, None elsewhere."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_of_process("self")


def peak_of_process(pid: int | str) -> int | None:
    """Give the peak resident size of a process, in bytes, or None where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else None

"""Record torch's operators on any device, and replay them one by one into the tensors of the record.

What a CUDA graph fixes is fixed here too: addresses, shapes, every number that Python worked out.
So a buffer that was not refilled, or a host number that should have been a tensor, gives wrong
tokens on a CPU, and reading the device or making a tensor from host numbers is an error.
"""

from collections.abc import Callable
from typing import Any, final

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from fdllm.execution.base import ExecutionError, Outcome
from fdllm.execution.static import Body, Recorder
from fdllm.kernels.launch import recording

# they wait for the device, or copy from host memory that is gone when the record is replayed
REFUSED = frozenset(
    {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "lift_fresh"}
)


@final
class Tape(Recorder):
    """Replay what was recorded, operator by operator."""

    def forget(self) -> None:
        """Do nothing: tapes have nothing in common."""

    def warm(self, body: Body) -> Outcome:
        """Run the function."""
        return body()

    def record(self, body: Body) -> tuple[Outcome, Callable[[], None]]:
        """Record the function as it runs; see the base class."""
        tape = _Recording()
        token = recording.set(tape.launch)
        try:
            with tape:
                outcome = body()
        finally:
            recording.reset(token)
        return outcome, tape.replay


class _Recording(TorchDispatchMode):
    """The operators of one function, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []

    def replay(self) -> None:
        for call in self.calls:
            call()

    def launch(self, run: Callable[[], None]) -> None:
        """Keep a kernel launch."""
        with _disable_current_modes():
            run()
        self.calls.append(run)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.removeprefix("aten::") in REFUSED:
            raise ExecutionError(
                f"a step cannot be recorded: {func._schema.name} reads the device, or copies from the host, in the "
                "middle of it; use execution = 'eager' or 'compile'"
            )
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        if func._schema.is_mutable:
            self.calls.append(lambda: func(*args, **kwargs))
        elif not _aliased(results, (args, kwargs)):
            self.calls.append(lambda: _refill(results, func(*args, **kwargs)))
        return out


def _aliased(results: list[Tensor], given: Any) -> bool:
    """Say whether a result is a view of an argument, and so needs no call to be up to date."""
    storages = {each.untyped_storage()._cdata for each in tree_leaves(given) if isinstance(each, Tensor)}
    return bool(results) and all(each.untyped_storage()._cdata in storages for each in results)


def _refill(results: list[Tensor], again: Any) -> None:
    fresh = [each for each in tree_leaves(again) if isinstance(each, Tensor)]
    for kept, new in zip(results, fresh, strict=True):
        kept.copy_(new)

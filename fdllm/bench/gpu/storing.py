"""The forward of a reuse step with K/V rotated and stored by torch, as a stock backbone does it, and by the kernel."""

from functools import partial
from typing import Any

import torch

from fdllm.bench.gpu.decode import BLOCK, llada_8b
from fdllm.bench.gpu.timing import timed
from fdllm.caches.base import Rows
from fdllm.execution.base import Outcome
from fdllm.execution.graphs import Graphs
from fdllm.execution.static import Recorder
from fdllm.execution.tape import Tape
from fdllm.kernels.store_kv.triton import store_kv
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.feed import Feed, feed


def storing(device: torch.device, quick: bool, calls: int) -> list[dict[str, Any]]:
    """Time one window over a full store in LLaDA-8B's shape, called and replayed, for each way; attention by sdpa."""
    model = llada_8b(device, quick)
    by_kernel = model.with_store_kv(store_kv)
    assert by_kernel is not None
    slots = 80 if quick else 1280
    ways = {"torch": model, "store_kv in triton": by_kernel}
    return [{"what": what, "slots": slots, **_times(each, slots, calls)} for what, each in ways.items()]


def _times(model: BackboneDenoiser, slots: int, calls: int) -> dict[str, Any]:
    window = range(slots - BLOCK, slots)
    made = feed(model.spec, [Rows(window)], [window], [slots]).to(model.device)
    canvas = torch.zeros(1, slots, dtype=torch.int64, device=model.device)
    store = model.new_store(1, slots)

    def body(of: Feed) -> Outcome:
        return Outcome({}, None, {"hidden": model.hidden(canvas, of, store, model.attention)})

    called = timed(lambda: body(made), model.device, calls)
    recorder: Recorder = Graphs(model.device) if model.device.type == "cuda" else Tape()
    recorded = partial(body, made.by_tensors())
    recorder.warm(recorded)
    _, replay = recorder.record(recorded)
    return {"called_ms": called.to_dict(), "replayed_ms": timed(replay, model.device, calls).to_dict()}

"""One training process of the tiny model: the loop over steps, checkpoints and progress."""

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from fdllm.tiny.batches import CONTINUED, Batch, Batches, mixture_at
from fdllm.tiny.evaluate import copying, exact_match, held_out
from fdllm.tiny.export import PREFIX
from fdllm.tiny.model import Shape, Tiny
from fdllm.tiny.muon import Optimizer
from fdllm.tiny.tokenizer import MASK_ID


@dataclass(frozen=True)
class Run:
    """Settings of a training run; `total` is in tokens, all processes together, fill included."""

    folder: str
    start: str | None
    shots: float
    tokenizer: str
    total: float
    seed: int
    rows: int
    muon_rate: float
    adam_rate: float
    constant: float
    compile: bool
    save_every: float
    probe_every: float
    match_every: float
    problems: int


class Worker:
    """Model, optimizer and position of one process in the run."""

    def __init__(self, run: Run, rank: int, world: int) -> None:
        """Build everything, then go on from the folder's last checkpoint if there is one."""
        self.run, self.rank, self.world = run, rank, world
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(run.seed)
        self.model = Tiny(Shape())
        if run.start:
            weights = load_file(Path(run.start) / "model.safetensors")
            self.model.load_state_dict({name.removeprefix(PREFIX): weight for name, weight in weights.items()})
        self.optimizer = Optimizer(dict(self.model.named_parameters()), run.muon_rate, run.adam_rate)
        self.tokenizer = Tokenizer.from_file(run.tokenizer)
        self.batches = Batches(self.tokenizer, run.seed, rank, run.rows)
        self.step, self.tokens = 0, 0
        self.last = Path(run.folder) / "last.pt"
        if self.last.exists():
            saved = torch.load(self.last, map_location="cpu", weights_only=True)
            self.optimizer.load(saved["optimizer"])
            self.step, self.tokens = saved["step"], saved["tokens"]
        self.model.to(self.device, torch.bfloat16)
        self._copy_masters()
        self.forward = torch.compile(self._loss, dynamic=True) if run.compile else self._loss

    def train(self) -> None:
        """Train until the schedule's last token."""
        began = saved = time.time()
        first, seen = self.tokens, self.tokens
        losses: list[float] = []
        while self.tokens < self.run.total:
            losses.append(self._one_step())
            if self._crossed(seen, self.run.probe_every):
                speed = (self.tokens - first) / (time.time() - began)
                self._report(sum(losses) / len(losses), speed, self._crossed(seen, self.run.match_every))
                losses.clear()
            seen = self.tokens
            if self.rank == 0 and time.time() - saved > self.run.save_every:
                self._save()
                saved = time.time()
        self._report(sum(losses) / max(1, len(losses)), (self.tokens - first) / (time.time() - began), True)
        if self.rank == 0:
            self._save()

    def scale(self) -> float:
        """Learning rate as a share of its peak: warm-up, constant, then linear to zero."""
        left = (1 - self.tokens / self.run.total) / (1 - self.run.constant)
        return max(0.0, min(1.0, left)) * min(1.0, (self.step + 1) / 100)

    def _crossed(self, before: int, every: float) -> bool:
        return before // every != self.tokens // every

    def _one_step(self) -> float:
        mixture = (
            replace(CONTINUED, shots=self.run.shots) if self.run.start else mixture_at(self.tokens / self.run.total)
        )
        batch = self.batches.at(self.step, mixture)
        loss = self.forward(*self._tensors(batch))
        torch.autograd.backward(loss)
        gradients = [weight.grad.float().flatten() for weight in self.model.parameters() if weight.grad is not None]
        flat = torch.cat([*gradients, torch.tensor([loss.item(), float(batch.tokens.size)], device=self.device)])
        if self.world > 1:
            dist.all_reduce(flat)
        self.optimizer.step(flat[:-2] / self.world, self.scale())
        self.model.zero_grad()
        self._copy_masters()
        self.step += 1
        self.tokens += round(float(flat[-1]))
        return float(flat[-2]) / self.world

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens, masked = torch.from_numpy(batch.tokens), torch.from_numpy(batch.masked)
        weight = torch.from_numpy(batch.weight)[masked]
        shown = torch.where(masked, MASK_ID, tokens)
        places = masked.flatten().nonzero()[:, 0]
        parts = (shown, places, tokens[masked], weight / weight.sum())
        return tuple(part.to(self.device) for part in parts)  # type: ignore[return-value]

    def _loss(self, shown: Tensor, places: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        logits = self.model.head(self.model(shown).flatten(0, 1)[places])
        return (F.cross_entropy(logits.float(), targets, reduction="none") * weight).sum()

    @torch.no_grad()
    def _copy_masters(self) -> None:
        for name, weight in self.model.named_parameters():
            weight.copy_(self.optimizer.masters[name])

    def _report(self, loss: float, speed: float, match: bool) -> None:
        """Write one line of progress; exact match is shared between the processes."""
        line: dict[str, object] = {"step": self.step, "tokens": self.tokens, "loss": loss, "tokens_per_s": speed}
        if match:
            mine = held_out(self.run.problems)[self.rank :: self.world]
            right = torch.tensor([exact_match(self.model, self.tokenizer, mine)])
            if self.world > 1:
                dist.all_reduce(right)
            line["exact_match"] = int(right) / self.run.problems
        if self.rank == 0:
            line |= copying(self.model, self.tokenizer, 60) | {"scale": self.scale(), "time": time.time()}
            rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()}
            with (Path(self.run.folder) / "log.jsonl").open("a") as log:
                log.write(json.dumps(rounded) + "\n")

    def _save(self) -> None:
        state = {"optimizer": self.optimizer.state(), "step": self.step, "tokens": self.tokens}
        partial = self.last.with_suffix(".partial")
        torch.save(state | {"shape": asdict(self.model.shape), "run": asdict(self.run)}, partial)
        partial.replace(self.last)


def work(run: Run) -> None:
    """Train in this process, as the rank that the launcher's environment names."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
    Worker(run, rank, world).train()
    if world > 1:
        dist.destroy_process_group()

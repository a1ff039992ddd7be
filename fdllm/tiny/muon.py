"""Muon for the layer matrices and AdamW for the rest, on float32 masters of the model's weights.

Source: Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon); update scale 0.2*sqrt(largest side) as in
Liu et al. 2025, arXiv:2502.16982.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


def orthogonal(updates: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: push the singular values of each matrix of [N rows columns] towards one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = updates.shape[-2] > updates.shape[-1]
    x = (updates.mT if tall else updates).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(updates.dtype)
    return result


class Optimizer:
    """Both optimizers over one flat gradient."""

    def __init__(self, named: dict[str, Tensor], muon_rate: float, adam_rate: float) -> None:
        """Matrices of the layers go to Muon, embedding and norms to AdamW; copies are kept in float32."""
        self.masters = {name: weight.detach().float().clone() for name, weight in named.items()}
        self.rates = muon_rate, adam_rate
        self.groups: dict[torch.Size, list[str]] = defaultdict(list)
        for name, weight in self.masters.items():
            if name.startswith("blocks.") and weight.dim() == 2:
                self.groups[weight.shape].append(name)
        matrices = {name for names in self.groups.values() for name in names}
        self.momentum = {name: torch.zeros_like(self.masters[name]) for name in sorted(matrices)}
        others = [weight for name, weight in self.masters.items() if name not in matrices]
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0)

    @torch.no_grad()
    def step(self, flat: Tensor, scale: float) -> None:
        """Update the masters from the flat gradient, in the order of the masters, at `scale` times the rates."""
        sizes = [weight.numel() for weight in self.masters.values()]
        gradients = dict(zip(self.masters, flat.split_with_sizes(sizes), strict=True))
        for shape, names in self.groups.items():
            self._muon(shape, names, gradients, scale * self.rates[0])
        for name, weight in self.masters.items():
            if name not in self.momentum:
                weight.grad = gradients[name].view_as(weight).clone()
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        self.adam.param_groups[0]["lr"] = scale * self.rates[1]
        self.adam.step()

    def _muon(self, shape: torch.Size, names: list[str], gradients: dict[str, Tensor], rate: float) -> None:
        updates = []
        for name in names:
            gradient = gradients[name].view(shape)
            momentum = self.momentum[name].lerp_(gradient, 0.05)
            updates.append(gradient.lerp(momentum, 0.95))
        for name, update in zip(names, orthogonal(torch.stack(updates)), strict=True):
            self.masters[name].mul_(1 - 0.01 * rate).sub_(update, alpha=rate * 0.2 * max(shape) ** 0.5)

    def state(self) -> dict[str, Any]:
        """Collect what a checkpoint keeps."""
        return {"masters": self.masters, "momentum": self.momentum, "adam": self.adam.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for kept, saved in ((self.masters, state["masters"]), (self.momentum, state["momentum"])):
            for name, tensor in kept.items():
                tensor.copy_(saved[name])
        self.adam.load_state_dict(state["adam"])

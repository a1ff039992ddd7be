"""The tiny model for training: a bidirectional Llama whose parameters carry LLaDA's published names."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; the embedding is tied to the head."""

    vocab: int = 640
    hidden: int = 128
    layers: int = 6
    heads: int = 4
    inner: int = 352
    eps: float = 1e-6
    theta: float = 10_000.0
    max_length: int = 1024


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        """Begin with scale one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension, [... size]."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class Block(nn.Module):
    """Attention over every position, then SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        """Weights as N(0, 1/inputs); both outputs start small."""
        super().__init__()
        self.heads = shape.heads
        self.attn_norm, self.ff_norm = RMSNorm(shape.hidden, shape.eps), RMSNorm(shape.hidden, shape.eps)
        self.q_proj, self.k_proj, self.v_proj, self.attn_out = (_linear(shape.hidden, shape.hidden) for _ in range(4))
        self.ff_proj, self.up_proj = (_linear(shape.hidden, shape.inner) for _ in range(2))
        self.ff_out = _linear(shape.inner, shape.hidden)
        with torch.no_grad():
            self.attn_out.weight.mul_(0.5 * shape.layers**-0.5)
            self.ff_out.weight.mul_(0.5 * shape.layers**-0.5)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """One layer, [B L hidden]."""
        x = x + self.attn_out(self._attend(self.attn_norm(x), cos, sin))
        gate, up = F.linear(self.ff_norm(x), torch.cat([self.ff_proj.weight, self.up_proj.weight])).chunk(2, -1)
        result: Tensor = x + self.ff_out(F.silu(gate) * up)
        return result

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        q, k, v = F.linear(x, weight).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if x.is_cuda:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            # on CPU the backward of the fused kernel is slower than the plain product at these sizes
            mixed = F.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
        return mixed.transpose(1, 2).reshape(batch, length, hidden)


class Tiny(nn.Module):
    """Token ids to logits; no causal mask."""

    def __init__(self, shape: Shape) -> None:
        """Draw the weights; seed torch first."""
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab, shape.hidden)
        nn.init.normal_(self.wte.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.ln_f = RMSNorm(shape.hidden, shape.eps)
        size = shape.hidden // shape.heads
        angles = torch.outer(torch.arange(shape.max_length), shape.theta ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("angles", torch.cat([angles, angles], -1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the final states, [B L hidden]; `head` turns chosen ones into logits."""
        x = self.wte(tokens)
        angles: Tensor = self.get_buffer("angles")[: tokens.shape[1]]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        states: Tensor = self.ln_f(x)
        return states

    def head(self, states: Tensor) -> Tensor:
        """Logits of states, [... hidden] to [... vocab]."""
        return F.linear(states, self.wte.weight)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin

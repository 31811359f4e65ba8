"""Recurrences of many networks of one architecture at once.

N members, T timesteps, B streams, I inputs, H hidden units, L layers. Tensors of a population have N as first axis.

``torch.func.vmap`` computes any cell that consists of operations for which torch has a batching rule. It has none for
``nn.RNN``, ``nn.GRU`` and ``nn.LSTM``, so these are written out here, forward and backward: the products with the
recurrent matrices of all members are one batched product per timestep, and the gradients of the weights are one
product over all timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from seqrnn.models.protocol import State

Weights = Mapping[str, Tensor]  # parameters and buffers by name, (N, …) each
Joint = Callable[[Weights, Tensor, State], tuple[Tensor, State]]


def joint_cell(cell: nn.Module) -> Joint:
    """Returns a function that computes what ``cell`` computes, for all members.

    It maps the weights, inputs (N, T, B, I) and a state of parts (N, L, B, H) to outputs (N, T, B, H) and the state
    after them.
    """
    stack = getattr(cell, "stack", None)
    # The cells of the package that leave everything to one of torch's layers.
    if type(cell).__module__ in _BY_HAND and isinstance(stack, nn.RNNBase) and len(list(cell.children())) == 1:
        return _TorchStack(stack)
    call = vmap(lambda weights, inputs, state: functional_call(cell, dict(weights), (inputs, state)))

    def recur(weights: Weights, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, after = call(weights, inputs, state)
        return outputs, tuple(after)

    return recur


# Streams up to which the equations of the LSTM, for all members at once, are faster on a CPU than oneDNN's layer for
# one member after another.
LSTM_STREAMS = 4
_BY_HAND = ("seqrnn.models.rnn", "seqrnn.models.gru", "seqrnn.models.lstm")


class InitialState(nn.Module):
    """Gives a cell's ``initial_state`` the form of a module, which ``functional_call`` can call."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, streams: int) -> State:
        state: State = self.cell.initial_state(streams)
        return state


def joint_initial_state(cell: nn.Module) -> Callable[[Weights, int], State]:
    """Returns a function that maps weights and a number of streams to initial states, parts (N, L, B, H)."""
    module = InitialState(cell)

    def initial(weights: Weights, streams: int) -> State:
        named = {f"cell.{name}": weight for name, weight in weights.items()}
        return tuple(vmap(lambda own: functional_call(module, own, (streams,)))(named))

    return initial


def joint_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns W x + b for inputs (N, M, I), weights (N, O, I) and biases (N, O)."""
    if bias is None:
        return torch.bmm(inputs, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)


def joint_module(module: nn.Module) -> Callable[[Weights, Tensor], Tensor]:
    """Returns a function that computes what a module without state computes, of inputs (N, M, ·)."""
    if type(module) is nn.Linear:
        return lambda weights, inputs: joint_linear(inputs, weights["weight"], weights.get("bias"))
    call = vmap(lambda weights, inputs: functional_call(module, dict(weights), (inputs,)))
    return lambda weights, inputs: call(weights, inputs)


def named_below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """Returns the weights of a part of the network by their names in that part."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


class _TorchStack:
    """Computes one of torch's recurrent layers, for all members."""

    def __init__(self, stack: nn.RNNBase) -> None:
        self.layers, self.has_bias = stack.num_layers, stack.bias
        kinds: dict[type, Any] = {nn.RNN: _Simple, nn.GRU: _GRU, nn.LSTM: _LSTM}
        self.kind = kinds[type(stack)]
        self.settings = (stack.nonlinearity == "relu",) if isinstance(stack, nn.RNN) else ()

    def __call__(self, weights: Weights, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        if self.kind is _LSTM and inputs.device.type == "cpu" and inputs.shape[2] > LSTM_STREAMS:
            return self._one_by_one(weights, inputs, state)
        ends = []
        for layer in range(self.layers):
            w, u = (weights[f"stack.weight_{part}_l{layer}"] for part in ("ih", "hh"))
            b, c = (weights.get(f"stack.bias_{part}_l{layer}") for part in ("ih", "hh"))
            members, timesteps, streams, _ = inputs.shape
            sums = joint_linear(inputs.flatten(1, 2), w, b).view(members, timesteps, streams, -1)
            start = tuple(part[:, layer] for part in state)
            # outputs (N, T, B, H), and parts of the state (N, B, H)
            inputs, *end = self.kind.apply(sums, u, c, *start, *self.settings)
            ends.append(end)
        return inputs, tuple(torch.stack(parts, dim=1) for parts in zip(*ends, strict=True))

    def _one_by_one(self, weights: Weights, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs torch's LSTM for one member after another."""
        names = [
            f"stack.{kind}_{part}_l" for kind in ("weight", "bias")[: 1 + self.has_bias] for part in ("ih", "hh")
        ]
        flat = zip(*(weights[f"{name}{n}"].unbind() for n in range(self.layers) for name in names), strict=True)
        found = [
            torch.lstm(x, start, list(own), self.has_bias, self.layers, 0.0, True, False, False)
            for x, own, *start in zip(inputs, flat, *state, strict=True)
        ]
        outputs, h, c = (torch.stack(parts) for parts in zip(*found, strict=True))
        return outputs, (h, c)


def _tanh_(x: Tensor) -> Tensor:
    """Replaces x by tanh(x). On a CPU, torch's sigmoid is ten times as fast as its tanh; tanh(x) = 2 σ(2x) − 1
    differs by a rounding error of numbers near 1."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1) if x.device.type == "cpu" else x.tanh_()


def _weight_gradients(sums: Tensor, before: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns the gradients of the recurrent matrix (N, G, H) and its bias (N, G).

    Args:
        sums: gradients of U h + c, (N, T, B, G).
        before: h, (N, T, B, H).
    """
    flat = sums.flatten(1, 2)
    return torch.bmm(flat.mT, before.flatten(1, 2)), None if bias is None else flat.sum(1)


def _biased(bias: Tensor | None, like: Tensor) -> Tensor:
    """Returns the bias as (N, 1, G), or zeros."""
    return like.new_zeros(len(like), 1, like.shape[-1]) if bias is None else bias.unsqueeze(1)


class _Simple(torch.autograd.Function):
    """h_t = φ(s_t + U h_{t−1} + c), where s (N, T, B, H) are the sums W x + b, and φ is tanh or max(·, 0)."""

    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, u: Tensor, bias: Tensor | None, h: Tensor, is_relu: bool
    ) -> tuple[Tensor, Tensor]:
        members, timesteps, streams, size = sums.shape
        states = sums.new_empty(members, timesteps + 1, streams, size)
        states[:, 0] = h
        sums = sums if bias is None else sums + bias[:, None, None]
        activate = torch.relu_ if is_relu else _tanh_
        for t in range(timesteps):
            h = states[:, t + 1].copy_(activate(torch.baddbmm(sums[:, t], states[:, t], u.mT)))
        ctx.save_for_backward(u, bias, states)
        ctx.is_relu = is_relu
        return states[:, 1:], h.clone()

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_end: Tensor) -> tuple[Tensor | None, ...]:
        u, bias, states = ctx.saved_tensors
        d_sums, d_h = torch.empty_like(d_outputs), d_end
        for t in reversed(range(d_outputs.shape[1])):
            h = states[:, t + 1]
            slope = (h > 0).to(h.dtype) if ctx.is_relu else 1 - h * h
            d = torch.mul(d_outputs[:, t] + d_h, slope)
            d_sums[:, t] = d
            d_h = torch.bmm(d, u)
        d_u, d_bias = _weight_gradients(d_sums, states[:, :-1], bias)
        return d_sums, d_u, d_bias, d_h, None


class _GRU(torch.autograd.Function):
    """The gated recurrent unit as ``torch.nn.GRU`` computes it; the sums (N, T, B, 3H) are W x + b."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, u: Tensor, bias: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        members, timesteps, streams, size = *sums.shape[:3], sums.shape[3] // 3
        states = sums.new_empty(members, timesteps + 1, streams, size)
        gates = sums.new_empty(members, timesteps, streams, 2 * size)  # r and z
        candidates, recurrent = (sums.new_empty(members, timesteps, streams, size) for _ in range(2))
        c, matrix = _biased(bias, sums), u.mT
        states[:, 0] = h
        for t in range(timesteps):
            s, h = sums[:, t], states[:, t]
            v = torch.baddbmm(c, h, matrix)  # U h + c
            gate = torch.add(s[..., : 2 * size], v[..., : 2 * size], out=gates[:, t]).sigmoid_()
            r, z = gate[..., :size], gate[..., size:]
            kept = recurrent[:, t].copy_(v[..., 2 * size :])
            n = _tanh_(torch.addcmul(s[..., 2 * size :], r, kept, out=candidates[:, t]))
            torch.lerp(n, h, z, out=states[:, t + 1])
        ctx.save_for_backward(u, bias, states, gates, candidates, recurrent)
        return states[:, 1:], states[:, timesteps].clone()

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_end: Tensor) -> tuple[Tensor | None, ...]:
        u, bias, states, gates, candidates, recurrent = ctx.saved_tensors
        timesteps, size = d_outputs.shape[1], d_outputs.shape[3]
        d_sums = d_outputs.new_empty(*d_outputs.shape[:3], 3 * size)  # of W x + b
        d_products = torch.empty_like(d_sums)  # of U h + c: the same but for the candidate's
        d_h = d_end
        for t in reversed(range(timesteps)):
            r, z = gates[:, t, :, :size], gates[:, t, :, size:]
            n, h, ds, dv = candidates[:, t], states[:, t], d_sums[:, t], d_products[:, t]
            d = d_outputs[:, t] + d_h
            kept = d * z
            d_n = torch.mul(d - kept, 1 - n * n, out=ds[..., 2 * size :])
            torch.mul((h - n).mul_(kept), 1 - z, out=ds[..., size : 2 * size])
            torch.mul(d_n, r, out=dv[..., 2 * size :])
            torch.mul(dv[..., 2 * size :] * recurrent[:, t], 1 - r, out=ds[..., :size])
            dv[..., : 2 * size] = ds[..., : 2 * size]
            d_h = torch.baddbmm(kept, dv, u)
        d_u, d_bias = _weight_gradients(d_products, states[:, :-1], bias)
        return d_sums, d_u, d_bias, d_h


class _LSTM(torch.autograd.Function):
    """Long short-term memory as ``torch.nn.LSTM`` computes it; the sums (N, T, B, 4H) are W x + b."""

    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, u: Tensor, bias: Tensor | None, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        members, timesteps, streams, size = *sums.shape[:3], sums.shape[3] // 4
        states, cells = (sums.new_empty(members, timesteps + 1, streams, size) for _ in range(2))
        gates = sums.new_empty(members, timesteps, streams, 4 * size)  # i, f, g and o
        squashed = sums.new_empty(members, timesteps, streams, size)  # tanh(c)
        states[:, 0], cells[:, 0] = h, c
        sums = sums if bias is None else sums + bias[:, None, None]
        matrix = u.mT
        for t in range(timesteps):
            gate = torch.baddbmm(sums[:, t], states[:, t], matrix)
            gate[..., : 2 * size].sigmoid_()
            _tanh_(gate[..., 2 * size : 3 * size])
            gate[..., 3 * size :].sigmoid_()
            gates[:, t] = gate
            i, f, g, o = torch.split(gate, size, dim=-1)
            new = torch.addcmul(f * cells[:, t], i, g, out=cells[:, t + 1])
            torch.mul(o, _tanh_(squashed[:, t].copy_(new)), out=states[:, t + 1])
        ctx.save_for_backward(u, bias, states, cells, gates, squashed)
        return states[:, 1:], states[:, timesteps].clone(), cells[:, timesteps].clone()

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_end: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        u, bias, states, cells, gates, squashed = ctx.saved_tensors
        timesteps, size = d_outputs.shape[1], d_outputs.shape[3]
        d_sums = d_outputs.new_empty(*d_outputs.shape[:3], 4 * size)
        d_h, d_c = d_end, d_cell
        for t in reversed(range(timesteps)):
            i, f, g, o = torch.split(gates[:, t], size, dim=-1)
            d_i, d_f, d_g, d_o = torch.split(d_sums[:, t], size, dim=-1)
            th, d = squashed[:, t], d_outputs[:, t] + d_h
            torch.mul((d * th).mul_(o), 1 - o, out=d_o)
            d_c = torch.addcmul(d_c, d.mul_(o), 1 - th * th)
            torch.mul((d_c * g).mul_(i), 1 - i, out=d_i)
            torch.mul((d_c * cells[:, t]).mul_(f), 1 - f, out=d_f)
            torch.mul(d_c * i, 1 - g * g, out=d_g)
            d_c = d_c * f
            d_h = torch.bmm(d_sums[:, t], u)
        d_u, d_bias = _weight_gradients(d_sums, states[:, :-1], bias)
        return d_sums, d_u, d_bias, d_h, d_c

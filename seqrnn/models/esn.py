"""The echo state network, for model=esn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from seqrnn.bounds import Layers, NonNegative, Size
from seqrnn.models.protocol import State
from seqrnn.models.stack import add_constants, run_layers
from seqrnn.registry import register

Leak = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


@register("model", "esn")
class EchoStateNetwork(nn.Module):
    """h_t = (1 − a) h_{t−1} + a tanh(s W_in x_t + ρ W h_{t−1} + c b)

    Jaeger (2001), "The 'echo state' approach to analysing and training recurrent neural networks", GMD report 148,
    with the leaky units of Jaeger et al. (2007). W_in, W and b are random and stay as they are: the reservoir has no
    parameters, and only the head is trained. ``optimizer=ridge`` computes the head in closed form, in one pass over
    the data, and leaves out the timesteps of a washout; with any other optimizer, gradient descent trains it.

    W_in and b start uniform in ±1, W normally distributed and divided by the magnitude of its largest eigenvalue, so
    that ``spectral_radius`` ρ is that of ρ W; s is ``input_scale``, c ``bias_scale``, a ``leak``. The head reads the
    units alone; the paper's may read the inputs as well. Further layers receive the units of the layer below.
    """

    spectral_radius: Tensor
    input_scale: Tensor
    bias_scale: Tensor
    leak: Tensor

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        spectral_radius: NonNegative,
        input_scale: NonNegative,
        bias_scale: NonNegative,
        leak: Leak,
    ) -> None:
        super().__init__()
        self.output_size, self.num_layers = hidden_size, num_layers
        add_constants(
            self, spectral_radius=spectral_radius, input_scale=input_scale, bias_scale=bias_scale, leak=leak
        )
        for layer in range(num_layers):
            size = hidden_size if layer else input_size
            self.register_buffer(f"W_in_{layer}", torch.empty(size, hidden_size).uniform_(-1, 1))
            W = torch.randn(hidden_size, hidden_size)
            radius = torch.linalg.eigvals(W).abs().max() if W.device.type != "meta" else 1.0
            self.register_buffer(f"W_{layer}", W / radius)
            self.register_buffer(f"b_{layer}", torch.empty(hidden_size).uniform_(-1, 1))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        W_in, W, b = (self.get_buffer(f"{name}_{number}") for name in ("W_in", "W", "b"))
        from_inputs = self.input_scale * (inputs @ W_in) + self.bias_scale * b  # (T, B, H)
        W, (h,), outputs = self.spectral_radius * W, state, []  # (H, H), (B, H)
        for from_input in torch.unbind(from_inputs):
            h = torch.lerp(h, torch.tanh(torch.addmm(from_input, h, W)), self.leak)
            outputs.append(h)
        return torch.stack(outputs), (h,)  # (T, B, H), (B, H)

    def initial_state(self, streams: int) -> State:
        b = self.get_buffer("b_0")
        return (b.new_zeros(self.num_layers, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [self.get_buffer(f"W_{layer}") for layer in range(self.num_layers)]

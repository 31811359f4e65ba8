"""A forward and backward pass of a recurrence, as training needs it: the gradient of the weights, not of the inputs.

T timesteps, B streams, I inputs, H hidden units; inputs (T, B, I), a gradient of the outputs (T, B, H).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.measure import best_of
from seqrnn import registry
from seqrnn.models.network import Network

TORCH = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"elman": 1, "rnn": 1, "gru": 3, "lstm": 4}
OWN_SETTINGS = {"elman": {"bias": True}, "rnn": {"nonlinearity": "tanh"}, "gru": {}, "lstm": {"forget_bias": None}}


@dataclass(frozen=True)
class Size:
    T: int
    B: int
    I: int  # noqa: E741
    H: int

    def __str__(self) -> str:
        return f"{self.T}, {self.B}, {self.I}, {self.H}"

    def flops(self, gates: int) -> int:
        """Multiplications and additions in the matrix products of a forward and a backward pass.

        Forward, G H rows of I + H products at each of T B points: 2 T B G H (I + H). Backward, as many again for the
        gradient of the weights, and 2 T B G H H for the gradient that flows back through the state. That of the
        inputs is not asked for; what is done element by element (about 30 G H operations a point) is left out.
        """
        return 2 * self.T * self.B * gates * self.H * (2 * self.I + 3 * self.H)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def torch_pass(cell: str, size: Size, device: str) -> Callable[[], Any]:
    """Returns a forward and backward pass of torch.nn's cell."""
    module = TORCH[cell](size.I, size.H).to(device)
    x, gradient = (torch.randn(size.T, size.B, n, device=device) for n in (size.I, size.H))

    def run() -> None:
        module.zero_grad()
        outputs, _ = module(x)
        outputs.backward(gradient)

    return run


def seqrnn_pass(cell: str, size: Size, device: str, kernel: str) -> Callable[[], Any]:
    """Returns a forward and backward pass of seqrnn's recurrence, by one of its kernels."""
    settings = {"hidden_size": size.H, "num_layers": 1, "dropout": 0.0, **OWN_SETTINGS[cell]}
    module = registry.build("model", {"name": cell, **settings}, size.I)
    head = {"head": "linear", "head_size": 1, "head_bias": True, "recurrent_init": "default", "init_std": {}}
    network = Network(module, 1, kernel, **head).to(device)
    x, gradient = (torch.randn(size.T, size.B, n, device=device) for n in (size.I, size.H))

    def run() -> None:
        network.cell.zero_grad()
        outputs, _ = network.recur(x, network.initial_state(size.B))
        outputs.backward(gradient)

    return run


def jax_pass(cell: str, size: Size, device: str) -> tuple[Callable[[], Any], float]:
    """Returns a jitted lax.scan with its gradient, and the seconds that its compilation took."""
    import numpy as np

    from benchmarks.jax_implementations import common
    from benchmarks.jax_implementations.common import jax, jnp

    common.use(device)
    rng = np.random.default_rng(0)
    p = common.recurrent(rng, GATES[cell], size.I, size.H)
    x, gradient = (jnp.asarray(rng.normal(size=(size.T, size.B, n)), jnp.float32) for n in (size.I, size.H))
    cell_step = {"rnn": common.rnn_step, "gru": common.gru_step, "lstm": common.lstm_step}[cell]
    h = jnp.zeros((size.B, size.H))

    def loss_of(p: Any, x: Any, gradient: Any) -> Any:
        def step(state: Any, gi: Any) -> tuple[Any, Any]:
            state = cell_step(p, state, gi)
            return state, state[0] if cell == "lstm" else state

        _, outputs = jax.lax.scan(step, (h, h) if cell == "lstm" else h, x @ p["wi"] + p["bi"])
        return jnp.vdot(outputs, gradient)

    ready, seconds = common.compiled(jax.grad(loss_of), p, x, gradient)
    return lambda: jax.block_until_ready(ready(p, x, gradient)), seconds


def products(a: Any, w: Any) -> dict[str, Callable[[], Any]]:
    """Returns products of a (m, k) with the transpose of w (n, k), by library. None is the fastest everywhere: MKL,
    which torch.mm calls, leaves half of an AMD core idle; oneDNN, which torch's LSTM calls, does not."""
    turned, out = w.T, a.new_empty(len(a), len(w))
    found: dict[str, Callable[[], Any]] = {"torch.mm": lambda: torch.mm(a, turned, out=out)}
    if a.device.type == "cpu":
        try:
            onednn = torch.ops.mkldnn._linear_pointwise
            onednn(a[:1], w[:1], None, "none", [], "")
            found["oneDNN"] = lambda: onednn(a, w, None, "none", [], "")
        except (AttributeError, RuntimeError):
            pass  # this torch is built without it
    return found


def gemm_peak(device: str, seconds: float) -> dict[str, float]:
    """FLOP/s on large square matrices, by library: the largest is what can be had of this machine."""
    n = 8192 if device == "cuda" else 1024
    a, w = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    return {
        name: 2 * n**3 / best_of(product, seconds, lambda: synchronize(device))
        for name, product in products(a, w).items()
    }


def gemm_seconds(gates: int, size: Size, device: str, seconds: float) -> float:
    """Returns the seconds of the matrix products of one forward and backward pass, one after another, each by the
    fastest library: T of the state and T of its gradient; those of the inputs and of the weights once, over all
    timesteps."""
    rows, wide = size.T * size.B, gates * size.H
    needed = [  # how often, and m, k, n of (m, k) @ (k, n)
        (1, rows, size.I, wide),
        (size.T, size.B, size.H, wide),
        (size.T, size.B, wide, size.H),
        (1, wide, rows, size.I),
        (1, wide, rows, size.H),
    ]
    total = 0.0
    for count, m, k, n in needed:
        a, w = torch.randn(m, k, device=device), torch.randn(n, k, device=device)
        calls = 1 if count == 1 else 20

        def run(product: Any, calls: int = calls) -> None:
            for _ in range(calls):
                product()

        clocks = [
            best_of(lambda product=product, run=run: run(product), seconds, lambda: synchronize(device)) / calls
            for product in products(a, w).values()
        ]
        total += count * min(clocks)
    return total

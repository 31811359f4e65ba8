"""Trains momentum_rnn.MomentumRNN by torch and in compiled code; prints which strategies did so, and how far the
weights lie apart. It has a process of its own, because a twin must be registered before anything is compiled."""

from __future__ import annotations

import torch

from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.strategies.choice import choose
from seqrnn.training import fit


def main() -> None:
    load_components(["momentum_rnn"])
    from test_resume import values_of  # after the plugin, as it imports compiled code

    shared = {key: value for key, value in values_of()["model"].items() if key.startswith(("head", "rec", "init"))}
    model = {**shared, "init_std": {}, "name": "momentum", "hidden_size": 5, "num_layers": 2, "dropout": 0.0}
    schedule = {"window": 6, "stride": 2, "update_every": 8, "carry": True, "streams": 3}
    weights = []
    for kernel in ("torch", "compiled"):
        values = values_of(schedule=schedule, kernel=kernel, precision="float64")
        components = build_components({**values, "model": model})
        before = torch.cat([parameter.detach().flatten().clone() for parameter in components.network.parameters()])
        strategy = choose(components)
        fit(components, strategy=strategy)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in components.network.parameters()]))
        moved = float((weights[-1] - before).norm())
        print(type(strategy).__name__, moved > 0.1)
    print(float((weights[0] - weights[1]).norm() / weights[0].norm()) < 1e-10)


if __name__ == "__main__":
    main()

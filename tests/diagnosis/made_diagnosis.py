"""A diagnosis that has everything, as diagnosis.json holds it, and its parts."""

from __future__ import annotations

from typing import Any


def of(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    """Returns an interval as the file holds it; around the value if the bounds are not given."""
    low = low if low is not None or value is None else 0.8 * value
    return {"value": value, "low": low, "high": high if high is not None or value is None else 1.25 * value}


def finding(name: str, title: str = "It forgets", description: str = "Its loss is lower on its latest data.") -> Any:
    return {"name": name, "title": title, "description": description, "evidence": [], "remedies": []}


def tried(remedy: str, effect: dict[str, float | None]) -> dict[str, Any]:
    overrides = ["schedule.window=50"]
    trial = {"length": 1.0, "part": 0.5, "effect": effect, "loss": 0.1, "seeds": 3, "cost": 0.9, "helps": True}
    return {"remedy": remedy, "overrides": overrides, **trial}


def layer(name: str = "layer 1", units: int = 50) -> dict[str, Any]:
    shares = {key: of(0.1) for key in ("saturated", "always_saturated", "dead", "duplicate")}
    ranks = {key: of(0.3 * units) for key in ("effective_rank", "participation_ratio")}
    return {"name": name, "units": units, **shares, **ranks}


def baseline(name: str, loss: float = 0.3) -> dict[str, Any]:
    return {"name": name, "loss": of(loss), "metric": loss, "ratio": of(0.1)}


def made() -> dict[str, Any]:
    """Returns a diagnosis that has everything, as the file holds it."""
    lags = [0, 1, 2, 5, 10, 20, 50]
    return {
        "version": 3,
        "task": "integral",
        "model": "gru",
        "schedule": {"window": 2},
        "level": 0.95,
        "seconds": 37.0,
        "verdict": {
            "headline": "It has learned a part: its loss is 0.133 [0.119, 0.146] of that of the input itself.",
            "solved": False,
            "loss_ratio": of(0.133),
            "causes": [
                {"finding": finding("window"), "tried": [tried("longer window", of(0.6)), tried("wider", of(0.45))]},
                {"finding": finding("noise"), "tried": [tried("wider", of(0.45)), tried("smaller steps", of(1.1))]},
            ],
            "notes": [finding("unused")],
            "other_trials": [tried("larger steps", of(1e31)), tried("longer training", of(2.0, 1.5, 2.5))],
            "advice": tried("wider + longer", of(0.2)),
            "command": "python -m seqrnn.train task=integral schedule.window=50 schedule.streams=16",
            "trials_note": "Each is a training from scratch.",
        },
        "results": {
            "baselines": {
                "sequences": 40,
                "all_sequences": 100,
                "independent": "40 sequences",
                "loss": of(0.04),
                "metric": 0.04,
                "metric_name": "mae",
                "best": "input itself",
                "ratio": of(0.13),
                "baselines": [baseline("input itself", 0.28), baseline("floor (x)", 0.01)],
            },
            "rates": {
                "rates": [1e-5, 0.0002, 1e-3, 1e-2, 1.0],
                "losses": [of(0.4), of(0.2), of(0.1), of(0.12), of(1e30)],
                "resumed_losses": [0.04, 0.04, 0.05, 0.2, None],
                "own": 0.0002,
                "best": 1e-3,
                "ratio": of(2.0),
                "updates": 400,
                "seeds": 3,
            },
            "inputs": {
                "means": [0.0, 500.0],
                "scales": [1.0, 100.0],
                "far": [1],
                "names": ["pressure"],
                "effect": of(0.2),
                "part": 0.5,
            },
            "left_out": {
                "settings": ["task.inputs=auto"],
                "inputs": 1,
                "all_inputs": 3,
                "ratio": of(0.5),
                "independent": "20 sequences",
            },
            "future": {
                "ahead": [1, 2, 4],
                "ratios": [of(1.0), of(0.4), of(0.42)],
                "independent": "20 sequences",
                "delay": 2,
                "effect": of(0.3),
                "part": 1.0,
            },
            "labels": {
                "kind": "regression",
                "targets": 4000,
                "contradicted": of(0.1),
                "surest": 1.0,
                "foreseen": -0.01,
                "learned": 0.02,
                "gain": 0.5,
                "loss_of_others": of(0.3),
                "worst_timesteps": [7],
                "worst_sequences": [2],
                "independent": "20 sequences",
            },
            "data_size": {"sequences": 8, "timesteps": 200, "gap": of(3.0), "halved": of(1.5), "part": 1.0},
            "losses": {"loss": "mse", "share": of(0.8), "effect": of(0.6), "part": 1.0, "seeds": 3, "error": 0.2},
            "reach": {
                "curve": [0.97**lag for lag in range(501)],
                "lags": lags[1:],
                "reach_at_lags": [of(0.97**lag) for lag in lags[1:]],
                "half_life": of(22.4),
                "rate": of(0.97),
                "window": 2,
                "reach_at_window": of(0.94),
                "needed_lag": 65,
                "reach_at_needed_lag": of(0.14),
                "segments": 64,
                "sequences": 20,
            },
            "truncation": {
                "horizon": 250,
                "windows": [1, 2, 5, 250],
                "cosines": [of(0.2), of(0.4), of(0.6), of(1.0, 1.0, 1.0)],
                "ratios": [of(0.02), of(0.04), of(0.3), of(1.0, 1.0, 1.0)],
                "schedule_window": 2,
                "cosine": of(0.4),
                "ratio": of(0.04),
                "sufficient_window": 50,
                "excerpts": 32,
                "carry": True,
            },
            "forgetting": {
                "ages": [50, 500, 5000, 50_000],
                "losses": [of(0.04), of(0.06), of(0.065), of(0.07)],
                "upcoming_loss": of(0.06),
                "validation_loss": of(0.058),
                "recency_gap": of(0.36),
                "validation_ratio": of(0.97),
                "lr_factor": 1.0,
                "averaged_ratio": of(0.63),
                "continued_ratio": of(0.9),
                "continued_timesteps": 40_000,
                "moments": 160,
                "update_ratios": {"cell.stack.weight_hh_l0": of(2e-4), "head.bias": of(0.3, -0.04, 0.64)},
            },
            "noise": {
                "scale": of(None, 10.6),
                "targets": 2.0,
                "consecutive": 8,
                "accumulation_efficiency": of(0.19),
                "positions": 32,
            },
            "states": {
                "steps": 5000,
                "independent": "20 sequences",
                "layers": [layer()],
                "gates": [
                    {
                        "layer": 1,
                        "name": name,
                        "activation": activation,
                        "mean": of(0.4),
                        "below": of(0.1),
                        "above": of(0.05),
                    }
                    for name, activation in (("reset", "sigmoid"), ("update", "sigmoid"), ("candidate", "tanh"))
                ],
                "state_size": 50,
                "jacobian": {
                    "points": 64,
                    "spectral_radius": of(0.98),
                    "largest_singular_value": of(1.2),
                    "share_above_one": of(0.2),
                    "eigenvalues": [[[0.9, 0.1], [0.9, -0.1], [-0.4, 0.0]]],
                },
            },
            "memory": {
                "capacity": {
                    "limit": 200,
                    "inputs": 1,
                    "r2": [0.9, 0.5, 0.1],
                    "chance": 0.01,
                    "state_size": 50,
                    "total": of(5.2),
                },
                "decoding": {
                    "quantity": "targets",
                    "measure": "r2",
                    "independent": "20 sequences",
                    "lags": lags,
                    "scores": [of(0.99**lag) for lag in lags],
                    "autocorrelation": [0.9**lag for lag in lags],
                    "threshold": 0.5,
                    "reach": of(45.0),
                },
                "needed_timesteps": 65,
            },
            "drift": {
                "training_timesteps": 250,
                "timesteps": 5000,
                "streams": 16,
                "source": "rollout",
                "independent": "16 streams",
                "times": [100.0, 2000.0, 4900.0],
                "losses": [of(0.03), of(0.04), of(0.05)],
                "first_loss": of(0.03),
                "last_loss": of(0.05),
                "growth": of(1.6),
            },
        },
        "missing": {},
    }

"""The pictures of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cells import Size
from benchmarks.measure import median

COLOURS = {
    "torch.nn": "#c44e52",
    "plain": "#c44e52",
    "seqrnn_torch": "#b0a07c",
    "jax": "#4c72b0",
    "seqrnn": "#2a9d6f",
    "limit": "#444444",
}
NAMES = {"seqrnn_torch": "seqrnn, kernel=torch", "jax": "JAX, whole training in one jit", "plain": "plain PyTorch"}


def finish(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)
    return path


def tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def experiments(seconds: dict[str, dict[str, float]], path: Path) -> Path:
    """Draws seconds of training by experiment and implementation, side by side."""
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    implementations = [
        name for name in ("plain", "seqrnn_torch", "jax", "seqrnn") if any(name in s for s in seconds.values())
    ]
    height = 0.8 / len(implementations)
    for number, name in enumerate(implementations):
        places = [row + (number - (len(implementations) - 1) / 2) * height for row in range(len(seconds))]
        values = [found.get(name, float("nan")) for found in seconds.values()]
        bars = axes.barh(places, values, 0.9 * height, color=COLOURS[name], label=NAMES.get(name, name))
        axes.bar_label(bars, [label(value) for value in values], padding=3, fontsize=7.5, color="#333333")
    axes.set_yticks(range(len(seconds)), list(seconds))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds of training, one thread")
    axes.margins(x=0.12)
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return finish(figure, path)


def label(seconds: float) -> str:
    if seconds != seconds:
        return ""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def kernels(raw: dict[str, Any], path: Path) -> Path:
    """Draws the time of a pass by size, as a multiple of the arithmetic limit."""
    shown = [(cell, found) for cell, found in raw["cells"].items() if "torch.nn" in found[0]["seconds"]]
    figure, grid = plt.subplots(1, len(shown), figsize=(4 * len(shown), 4), layout="constrained", sharey=True)
    for axes, (cell, found) in zip(grid if len(shown) > 1 else [grid], shown, strict=True):
        sizes = [str(Size(*result["size"])) for result in found]
        for name in ("torch.nn", "jax", "seqrnn"):
            if name not in found[0]["seconds"]:
                continue
            values = [median(result["seconds"][name]) / result["limit"] for result in found]
            axes.plot(values, range(len(found)), "o", color=COLOURS[name], label={"jax": "JAX"}.get(name, name))
        products = [result["gemms"] / result["limit"] for result in found]
        axes.plot(products, range(len(found)), "|", markersize=11, color=COLOURS["limit"], label="products alone")
        axes.set_yticks(range(len(found)), sizes, fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.axvline(1, color="#999999", linewidth=0.8)
        axes.set_title(cell, loc="left", fontsize=10)
        axes.set_xlabel("times the arithmetic limit")
        tidy(axes)
    axes.invert_yaxis()
    figure.axes[0].set_ylabel("T, B, I, H")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False, fontsize=8)
    return finish(figure, path)


def growth(raw: dict[str, Any], path: Path) -> Path:
    """Draws microseconds per timestep, a panel per sweep."""
    figure, grid = plt.subplots(1, len(raw), figsize=(3 * len(raw), 3.4), layout="constrained", sharey=True)
    for axes, (name, found) in zip(grid, raw.items(), strict=True):
        for which in found[0]["seconds_per_timestep"]:
            values = [1e6 * median(result["seconds_per_timestep"][which]) for result in found]
            at = [result["at"] for result in found]
            axes.plot(at, values, "o-", color=COLOURS[which], label=which, markersize=4, linewidth=1.5)
        axes.set(xscale="log", yscale="log", xlabel=name)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:,g}")
        axes.set_title("a whole training" if name == "stream length" else "GRU, forward + backward", fontsize=9)
        tidy(axes)
    grid[0].set_ylabel("µs per timestep")
    grid[0].legend(frameon=False, fontsize=8)
    return finish(figure, path)

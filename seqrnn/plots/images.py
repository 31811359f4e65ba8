"""Sequences that are images: a row of pixels per timestep."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from seqrnn.plots import style
from seqrnn.plots.style import GREY, Array

SMALLEST = 8  # pixels


def are_images(inputs: NDArray[Any]) -> bool:
    """Returns whether inputs (T, N, I) look like images of T × I pixels: large enough, and not negative."""
    rows, count, columns = inputs.shape
    return bool(min(rows, columns) >= SMALLEST and count and np.nanmin(inputs) >= 0)


def show(ax: Axes, image: Array | None, title: str, colour: str, size: float = style.TEXT) -> None:
    """Draws an image (T, I) with a title; nothing if there is none."""
    ax.set_xticks([])
    ax.set_yticks([])
    if image is None:
        ax.set_axis_off()
        return
    ax.imshow(image, cmap="gray_r", vmin=0, interpolation="nearest")
    ax.spines[:].set_color(GREY)
    ax.spines[:].set_linewidth(0.5)
    ax.set_title(title, fontsize=size, color=colour, pad=3)

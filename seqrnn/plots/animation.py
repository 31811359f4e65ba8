"""animation.gif: the fit as it improved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seqrnn.plots import picture, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import INK
from seqrnn.rundir.atomic import replacing

MOST_FRAMES = 60
SECONDS = 6.0  # that an animation lasts, if there are enough frames
LAST_FRAME = 1600  # milliseconds that it is shown
COLOURS = 64
DPI = 100


def save(arrays: Mapping[str, NDArray[Any]], facts: Facts, path: Path) -> Path:
    """Writes an animation, whole or not at all. The frames share their axes; above them stands how many timesteps the
    network had been trained on.

    Args:
        arrays: those of snapshots.npz, checked (``seqrnn.plots.arrays``).
    """
    timesteps = arrays["timesteps"]
    chosen = np.unique(np.linspace(0, len(timesteps) - 1, MOST_FRAMES).round().astype(int))
    outputs = style.real(arrays["outputs"][chosen])
    figure, body, show = picture.find(facts).animate(arrays, outputs, facts)
    figure.set_dpi(DPI)
    heading = body.suptitle(" ", fontsize=style.TEXT + 1, color=INK, x=0.011, ha="left")

    frames = []
    for index, frame in zip(chosen, outputs, strict=True):
        heading.set_text(f"after {timesteps[index]:,} timesteps of training: {show(frame)}")
        figure.canvas.draw()
        figure.set_layout_engine("none")  # after the first frame, so that nothing but the outputs moves
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
        frames.append(Image.fromarray(pixels).quantize(COLOURS))

    rate = max(2, min(10, round(len(chosen) / SECONDS)))
    durations = [*[1000 // rate] * (len(frames) - 1), LAST_FRAME]
    with replacing(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return path

"""animation.gif: the fit as it improved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image

from seqrnn.plots import images, sincos, sine, style
from seqrnn.plots.classification import softmax
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILLION, Array
from seqrnn.rundir.atomic import replacing

MOST_FRAMES = 60
SECONDS = 6.0  # that an animation lasts, if there are frames enough
HELD = 1600  # milliseconds that its last frame is shown
COLOURS = 64
DPI = 100
PIECES = 10  # half waves of task=sincos
TIMESTEPS = 400  # of other sequences
MOST_PANELS = 3
SHARE = 0.85  # of a column, that a probability of 1 fills
Update = Callable[[Array], str]


def save(arrays: Mapping[str, NDArray[Any]], facts: Facts, path: Path) -> Path:
    """Regression: targets and outputs as lines. Classification: the probabilities of the classes of the first ten
    test sequences as bars, the real class highlighted. The frames share their axes; the timesteps that the network
    had seen stand above.
    """
    timesteps = arrays["timesteps"]
    chosen = np.unique(np.linspace(0, len(timesteps) - 1, MOST_FRAMES).round().astype(int))
    outputs = style.real(arrays["outputs"][chosen])
    build = _bars if facts.kind == "classification" else _lines
    figure, body, update = build(arrays, outputs, facts)
    figure.set_dpi(DPI)
    says = body.suptitle(" ", fontsize=style.TEXT + 1, color=INK, x=0.011, ha="left")

    pictures = []
    for index, frame in zip(chosen, outputs, strict=True):
        says.set_text(f"after {timesteps[index]:,} timesteps of training: {update(frame)}")
        figure.canvas.draw()
        figure.set_layout_engine("none")  # after the first frame, so that what stands still stands still
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
        pictures.append(Image.fromarray(pixels).quantize(COLOURS))

    rate = max(2, min(10, round(len(chosen) / SECONDS)))
    durations = [*[1000 // rate] * (len(pictures) - 1), HELD]
    with replacing(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return path


def _lines(arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts) -> tuple[Figure, SubFigure, Update]:
    """outputs (F, T, n, O)."""
    targets = style.real(arrays["targets"])  # (T, n, O)
    x, label, order = _course(targets, facts)
    target, courses = order(targets), [order(frame) for frame in outputs]  # (K, O), F times (K, O)
    count = min(target.shape[1], MOST_PANELS)
    figure, body = style.page(3.4 if count == 1 else 1.7 * count + 0.4, facts, "", facts.name)
    panels = body.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    is_source = facts.task in ("sine", "sincos")  # colours as in their predictions.png
    target_colour, output_colour = (VERMILLION, BLUE) if is_source else (ORANGE, GREEN)
    marker = "o" if len(x) < 60 else ""
    moving = []
    for number, ax in enumerate(panels):
        ax.plot(x, target[:, number], color=target_colour, linewidth=3, marker=marker, markersize=4, label="target")
        moving += ax.plot(
            x, courses[0][:, number], color=output_colour, linewidth=1.4, marker=marker, markersize=3, label="output"
        )
        style.axes(ax, y="" if count == 1 else f"output {number + 1}")
        tame = [np.clip(cursor[:, number], *style.limits([target[:, number]], 0.5)) for cursor in courses]
        ax.set_ylim(*style.limits([target[:, number], *tame], 0.05))
        ax.margins(x=0.01)
    style.axes(panels[-1], x=label, y="" if count == 1 else f"output {count}")
    if facts.task != "sine":
        style.whole_numbers(panels[-1], 10)
    style.legend(panels[0])

    def update(frame: Array) -> str:
        cursor = order(frame)
        for number, line in enumerate(moving):
            line.set_ydata(cursor[:, number])
        error = np.abs(cursor - target)
        shown = np.isfinite(error)
        return f"mean |error| here {error[shown].mean():.3f}" if shown.any() else "outputs are not finite"

    return figure, body, update


def _course(targets: Array, facts: Facts) -> tuple[Array, str, Callable[[Array], Array]]:
    """What is drawn of (T, n, O): the x-axis and its label, and a function that picks it in order of x, (K, O)."""
    steps, count, outputs = targets.shape
    if facts.task == "sine":
        t = sine.times(facts, steps)
        if t is not None and count == 1:
            return t, "t", lambda values: values[:, 0]
    if facts.task == "sincos" and outputs == 1:
        pieces = sincos.in_order(targets, facts)
        if pieces is not None:
            x = sincos.half_waves(*pieces.shape)[-PIECES:].ravel()
            return x, "t / π (half waves)", lambda values: values.swapaxes(0, 1).reshape(-1, 1)[-len(x) :]
    shown = min(steps, TIMESTEPS)
    if steps > 2 or count == 1:
        return np.arange(shown, dtype=float), "timestep", lambda values: values[:shown, 0]
    together = min(steps * count, TIMESTEPS)
    x = np.arange(together, dtype=float)
    return (
        x,
        "timestep, of one test sequence after another",
        lambda values: values.swapaxes(0, 1).reshape(-1, outputs)[:together],
    )


def _bars(arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts) -> tuple[Figure, SubFigure, Update]:
    """outputs (F, T', n, O), of which the last timestep is shown."""
    targets = arrays["targets"][-1].astype(int)  # (n,)
    inputs = style.real(arrays["inputs"])
    count, classes = min(10, len(targets)), outputs.shape[-1]
    as_images = images.are_images(inputs)
    heights = (0.85, 2.6) if as_images else (2.6,)
    figure, body = style.page(
        sum(heights) + 0.6,
        facts,
        "Test sequences, and the probability of each class; orange: the real class.",
        facts.name,
    )
    panels = body.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    bars = []
    for number in range(count):
        if as_images:
            panels[0].imshow(
                inputs[:, number], cmap="gray_r", vmin=0, extent=(number, number + SHARE, 0, 1), aspect="auto"
            )
        colours = [ORANGE if name == targets[number] else SKY for name in range(classes)]
        bars.append(panels[-1].barh(range(classes), np.zeros(classes), left=number, color=colours, height=0.8))
    for ax in panels:
        style.axes(ax)
        ax.grid(False)
        ax.set_xlim(-0.05, count)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelbottom=False)
    if as_images:
        panels[0].set_yticks([])
    panels[-1].vlines(range(count), -0.5, classes - 0.5, color=GREY, linewidth=1)
    panels[-1].set_ylim(classes - 0.4, -0.6)
    panels[-1].set_ylabel("class", fontsize=style.TEXT)
    if classes <= 12:
        panels[-1].set_yticks(range(classes))

    def update(frame: Array) -> str:
        probabilities = np.nan_to_num(softmax(frame[-1]))  # (n, O)
        for row, rectangles in zip(probabilities, bars, strict=False):
            for rectangle, share in zip(rectangles, row, strict=True):
                rectangle.set_width(SHARE * float(share))
        right = int((probabilities.argmax(axis=1)[:count] == targets[:count]).sum())
        return f"{right} of {count} right"

    return figure, body, update

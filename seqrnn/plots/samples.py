"""samples.png: training examples of a classification task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqrnn.plots import images, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import INK, INPUTS


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts, names: Sequence[str] = ()) -> Figure:
    """Draws the first training sequences (at most ten) with their classes: as images where they look like images,
    else as lines of their first inputs.

    Args:
        names: of the inputs; they are numbered where it has none.
    """
    inputs, targets = style.real(arrays["inputs"]), arrays["targets"].ravel()
    count = min(10, inputs.shape[1], len(targets))
    if images.are_images(inputs):
        caption = "Each row of pixels is a timestep, read from the top."
        figure, body = style.page(1.05, facts, caption, f"{facts.task}: the first training examples", of_images=True)
        for number, ax in enumerate(body.subplots(1, 10, squeeze=False)[0]):
            shown = inputs[:, number] if number < count else None
            images.show(ax, shown, style.plain(facts.class_name(targets[number])) if shown is not None else "", INK)
        return figure
    lines = min(inputs.shape[2], len(INPUTS))
    caption = f"{'Inputs' if lines == inputs.shape[2] else f'{lines} of the inputs'} against timesteps."
    figure, body = style.page(3.2, facts, caption, f"{facts.task}: the first training examples", of_images=True)
    for number, ax in enumerate(body.subplots(2, 5, sharex=True, sharey=True).ravel()):
        if number >= count:
            ax.set_axis_off()
            continue
        for line in range(lines):
            style.axes(ax, title=style.plain(f"class {facts.class_name(targets[number])}"))
            marker = "." if len(inputs) < 40 else ""
            ax.plot(
                inputs[:, number, line], color=INPUTS[line], linewidth=1, marker=marker, markersize=4,
                label=_name(names, line) if (lines > 1 or names) and number == 0 else "",
            )  # fmt: skip
        style.legend(ax)
        style.whole_numbers(ax, 3)
    body.supxlabel("timestep", fontsize=style.TEXT)
    return figure


def _name(names: Sequence[str], line: int) -> str:
    return style.plain(names[line]) if line < len(names) else f"input {line + 1}"

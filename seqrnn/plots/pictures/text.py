"""predictions.png of a language model of characters: how probable a text was, and a text that the network wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqrnn.plots import style
from seqrnn.plots.arrays import TEXT as AXES
from seqrnn.plots.facts import Facts
from seqrnn.plots.pictures import classes
from seqrnn.plots.style import INK, TEXT, Array

__all__ = ["AXES", "animate", "draw"]
ACROSS, DOWN = 84, 10  # characters of the test text
LETTER, FONT = 7.5, "DejaVu Sans Mono"  # points
NO_LETTER = "\ufffd"
ROW = 0.19  # inches
DARK = 0.55  # shades from which letters are white


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Draws the beginning of the test text, each character on a shade that says how probable the network thought it
    was, and the text that the network wrote."""
    first = np.flatnonzero(arrays["sequences"] == arrays["sequences"][0])[: ACROSS * DOWN]
    targets = arrays["targets"][first].astype(int)
    probabilities = np.nan_to_num(classes.softmax(style.real(arrays["outputs"][first])))
    shades = probabilities[np.arange(len(targets)), targets]
    bits = -np.log2(np.maximum(shades, 2.0**-40)).mean()
    caption = (
        f"Above: the first {len(targets):,} characters of the test text; the darker a character, the more probable "
        f"it was to the network (here {bits:.2f} bits per character). Below: what the network writes, each character "
        "drawn from its probabilities (temperature 1)."
    )
    above, below = (-(-len(one) // ACROSS) for one in (targets, arrays["sample"]))
    heights = [ROW * rows + 0.3 for rows in (above, max(below, 1))]
    figure, body = style.page(sum(heights), facts, caption)
    parts = style.parts(body, heights=heights)
    _write(parts[0].subplots(1, 1), "Test text", targets, facts, shades)
    _write(parts[1].subplots(1, 1), "Text of the network", arrays["sample"].astype(int), facts)
    return figure


def _write(ax: Axes, title: str, text: NDArray[Any], facts: Facts, shades: Array | None = None) -> None:
    """Writes characters in lines, one in each cell of a grid, on their shades."""
    rows = max(1, -(-len(text) // ACROSS))
    ax.set_title(title, fontsize=TEXT, fontweight="bold", color=INK, loc="left")
    ax.set_xlim(0, ACROSS)
    ax.set_ylim(rows, 0)
    ax.set_axis_off()
    letters = _letters(facts, text)
    if shades is not None:
        padded = np.pad(shades, (0, rows * ACROSS - len(text))).reshape(rows, ACROSS)
        ax.pcolormesh(padded, cmap="Blues", vmin=0, vmax=1 / 0.85, linewidth=0)
    for number, letter in enumerate(letters):
        if letter == " ":
            continue
        row, column = divmod(number, ACROSS)
        is_dark = shades is not None and shades[number] > DARK
        ax.text(
            column + 0.5, row + 0.5, letter, fontsize=LETTER, family=FONT, ha="center", va="center",
            color="white" if is_dark else INK, parse_math=False,
        )  # fmt: skip


def _letters(facts: Facts, text: NDArray[Any]) -> list[str]:
    """Returns what stands in each cell: a letter, or a sign for what the font has no letter of."""
    font = font_manager.get_font(font_manager.findfont(FONT))
    shown = {}
    for number in np.unique(text).tolist():
        name = facts.class_name(number)
        letter = " " if name == "␣" else name
        has_shape = len(letter) == 1 and letter.isprintable() and font.get_char_index(ord(letter)) > 0
        shown[number] = letter if has_shape else NO_LETTER
    return [shown[number] for number in text.tolist()]


animate = classes.animate

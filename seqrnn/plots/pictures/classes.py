"""predictions.png of a classification task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from seqrnn.plots import images, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, GREY, INK, ORANGE, SKY, SMALL, TEXT, VERMILLION, Array

ACROSS, DOWN = 10, 2  # of the first test images
WORST_ACROSS, WORST_DOWN = 5, 4  # of the mistakes
MOST_ANNOTATED = 12  # classes whose numbers fit into the matrix
LONGEST_NAME = 12  # characters of a class
ANIMATED = 10  # test sequences
SHARE = 0.85  # of a column, that a probability of 1 fills


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Draws the confusion matrix, with the accuracy on each class. Where the inputs look like images, also draws the
    first test images with predicted and real class (mistakes in vermillion), and the mistakes with the most probable
    predictions.
    """
    outputs, targets = style.real(arrays["outputs"]), arrays["targets"].astype(int)
    predicted = np.argmax(np.where(np.isfinite(outputs), outputs, -np.inf), axis=1)
    classes = outputs.shape[1]
    names = _names(facts, classes)
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (targets, predicted), 1)
    mistakes = int((predicted != targets).sum())
    caption = f"{mistakes:,} mistake{'s' * (mistakes != 1)} in {len(targets):,} test examples."
    lost = int((~np.isfinite(outputs).all(axis=1)).sum())
    caption += f" {lost:,} have outputs that are not finite." if lost else ""

    if not images.are_images(arrays["example_inputs"]):
        figure, body = style.page(4.4, facts, caption, of_images=True)
        left, right = body.subplots(1, 2, width_ratios=(1.25, 1))
        _confusion(left, matrix, names)
        _by_class(right, matrix, names)
        return figure

    grid = 1.12 * DOWN
    figure, body = style.page(grid + 4.3, facts, caption, of_images=True)
    above, below = style.parts(body, heights=(grid, 4.3))
    inputs = style.real(arrays["example_inputs"]).swapaxes(0, 1)
    pictures = dict(zip(arrays["examples"].tolist(), inputs, strict=True))
    _first(above, pictures, predicted, targets, names)
    left, right = style.parts(below, widths=(1.1, 1))
    _confusion(left.subplots(1, 1), matrix, names)
    _mistakes(right, pictures, softmax(outputs), predicted, targets, names)
    return figure


def animate(
    arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts
) -> tuple[Figure, SubFigure, Callable[[Array], str]]:
    """Draws the probabilities of the classes of the first test sequences as bars, at the last timestep; the real
    class is orange."""
    targets = arrays["targets"][-1].astype(int)  # (n,)
    inputs = style.real(arrays["inputs"])
    count, classes = min(ANIMATED, len(targets)), outputs.shape[-1]
    as_images = images.are_images(inputs)
    heights = (0.85, 2.6) if as_images else (2.6,)
    caption = "Test sequences, and the probability of each class; orange: the real class."
    figure, body = style.page(sum(heights) + 0.6, facts, caption, facts.name, of_images=True)
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
    panels[-1].set_ylabel("class", fontsize=TEXT)
    if classes <= MOST_ANNOTATED:
        names = _names(facts, classes)
        panels[-1].set_yticks(range(classes), names)

    def show(frame: Array) -> str:
        probabilities = np.nan_to_num(softmax(frame[-1]))  # (n, O)
        for row, rectangles in zip(probabilities, bars, strict=False):
            for rectangle, share in zip(rectangles, row, strict=True):
                rectangle.set_width(SHARE * float(share))
        right = int((probabilities.argmax(axis=1)[:count] == targets[:count]).sum())
        return f"{right} of {count} right"

    return figure, body, show


def _names(facts: Facts, classes: int) -> list[str]:
    names = (facts.class_name(number) for number in range(classes))
    return [style.plain(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…") for name in names]


def _first(
    body: SubFigure,
    pictures: Mapping[int, Array],
    predicted: NDArray[np.intp],
    targets: NDArray[Any],
    names: Sequence[str],
) -> None:
    for number, ax in enumerate(body.subplots(DOWN, ACROSS).ravel()):
        image = pictures.get(number)
        if image is None:
            images.show(ax, None, "", INK)
            continue
        is_wrong = predicted[number] != targets[number]
        title = f"{names[predicted[number]]}, is {names[targets[number]]}"
        images.show(ax, image, title, VERMILLION if is_wrong else INK)
    body.suptitle(
        "The first test images: predicted class, and what it is; mistakes in orange",
        fontsize=TEXT,
        fontweight="bold",
        color=INK,
        x=0.011,
        ha="left",
    )


def _mistakes(
    body: SubFigure,
    pictures: Mapping[int, Array],
    probabilities: Array,
    predicted: NDArray[np.intp],
    targets: NDArray[Any],
    names: Sequence[str],
) -> None:
    body.suptitle(
        "The mistakes with the highest probability", fontsize=TEXT, fontweight="bold", color=INK, x=0.02, ha="left"
    )
    wrong = [index for index in pictures if index < len(targets) and predicted[index] != targets[index]]
    if not wrong:
        body.text(0.5, 0.5, "no mistakes", ha="center", fontsize=TEXT, color=GREY)
        return
    wrong.sort(key=lambda index: -probabilities[index, predicted[index]])
    for number, ax in enumerate(body.subplots(WORST_DOWN, WORST_ACROSS).ravel()):
        if number >= len(wrong):
            images.show(ax, None, "", INK)
            continue
        index = wrong[number]
        probability = 100 * probabilities[index, predicted[index]]
        title = f"{names[predicted[index]]}, is {names[targets[index]]}\n{probability:.3g} %"
        images.show(ax, pictures[index], title, VERMILLION, SMALL)


def _confusion(ax: Axes, matrix: NDArray[Any], names: Sequence[str]) -> None:
    """Draws the matrix. Rows are real classes; colours are shares of a row, on a scale that shows small shares."""
    classes = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 1))
    ax.set_title("Confusion matrix: test examples", fontsize=TEXT, fontweight="bold", color=INK, loc="left")
    ax.set_xlabel("predicted class", fontsize=TEXT)
    ax.set_ylabel("real class", fontsize=TEXT)
    ax.tick_params(labelsize=SMALL, length=0)
    ax.spines[:].set_visible(False)
    if classes > MOST_ANNOTATED:
        return
    ax.set_xticks(range(classes), names)
    ax.set_yticks(range(classes), names)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.2 else INK
        ax.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", fontsize=7.5, color=colour)


def _by_class(ax: Axes, matrix: NDArray[Any], names: Sequence[str]) -> None:
    """Draws a bar for each class: the share that was recognised, and of how many."""
    classes, totals = len(matrix), matrix.sum(axis=1)
    shares = np.diag(matrix) / np.maximum(totals, 1)
    ax.barh(range(classes), shares, color=BLUE, height=0.7)
    style.axes(ax, x="recognised", y="real class", title="Accuracy by class")
    ax.grid(False, axis="y")
    ax.set_ylim(classes - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if classes > MOST_ANNOTATED:
        return
    ax.set_yticks(range(classes), names)
    for number, (share, total) in enumerate(zip(shares, totals, strict=True)):
        text = f"{100 * share:.3g} % of {total:,}" if total else "no examples"
        ax.text(
            share - 0.01 if share > 0.4 else share + 0.01,
            number,
            text,
            ha="right" if share > 0.4 else "left",
            va="center",
            fontsize=SMALL,
            color="white" if share > 0.4 else INK,
        )


def softmax(logits: Array) -> Array:
    """Returns probabilities over the last axis; NaN where a logit is NaN."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities

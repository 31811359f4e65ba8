"""predictions.png of a classification task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from seqrnn.plots import images, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, GREY, INK, SMALL, TEXT, VERMILLION, Array

ACROSS, DOWN = 10, 2  # of the first test images
WORST_ACROSS, WORST_DOWN = 5, 4  # of the mistakes
MOST_ANNOTATED = 12  # classes whose numbers fit into the matrix


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """The confusion matrix, with the accuracy on each class. Where the inputs look like images, also the first test
    images with predicted and real class (mistakes in vermillion), and the mistakes that the network was surest of.
    """
    outputs, targets = style.real(arrays["outputs"]), arrays["targets"].astype(int)
    predicted = np.argmax(np.where(np.isfinite(outputs), outputs, -np.inf), axis=1)
    classes = outputs.shape[1]
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (targets, predicted), 1)
    mistakes = int((predicted != targets).sum())
    says = f"{mistakes:,} mistake{'s' * (mistakes != 1)} in {len(targets):,} test examples."
    lost = int((~np.isfinite(outputs).all(axis=1)).sum())
    says += f" {lost:,} have outputs that are not finite." if lost else ""

    if not images.are_images(arrays["example_inputs"]):
        figure, body = style.page(4.4, facts, says)
        left, right = body.subplots(1, 2, width_ratios=(1.25, 1))
        _confusion(left, matrix)
        _by_class(right, matrix)
        return figure

    grid = 1.12 * DOWN
    figure, body = style.page(grid + 4.3, facts, says)
    above, below = style.parts(body, heights=(grid, 4.3))
    inputs = style.real(arrays["example_inputs"]).swapaxes(0, 1)
    pictures = dict(zip(arrays["examples"].tolist(), inputs, strict=True))
    _first(above, pictures, predicted, targets)
    left, right = style.parts(below, widths=(1.1, 1))
    _confusion(left.subplots(1, 1), matrix)
    _mistakes(right, pictures, softmax(outputs), predicted, targets)
    return figure


def _first(
    body: SubFigure, pictures: Mapping[int, Array], predicted: NDArray[np.intp], targets: NDArray[Any]
) -> None:
    for number, ax in enumerate(body.subplots(DOWN, ACROSS).ravel()):
        image = pictures.get(number)
        if image is None:
            images.show(ax, None, "", INK)
            continue
        is_wrong = predicted[number] != targets[number]
        title = f"{predicted[number]}, is {targets[number]}"
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
) -> None:
    body.suptitle("The mistakes it was surest of", fontsize=TEXT, fontweight="bold", color=INK, x=0.02, ha="left")
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
        sure = 100 * probabilities[index, predicted[index]]
        images.show(ax, pictures[index], f"{predicted[index]}, is {targets[index]}\n{sure:.3g} %", VERMILLION, SMALL)


def _confusion(ax: Axes, matrix: NDArray[Any]) -> None:
    """Rows are real classes; colours are shares of their row, on a scale that shows small shares too."""
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
    ax.set_xticks(range(classes))
    ax.set_yticks(range(classes))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.2 else INK
        ax.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", fontsize=7.5, color=colour)


def _by_class(ax: Axes, matrix: NDArray[Any]) -> None:
    """Horizontal bars: which share of each class was recognised; beside them, out of how many."""
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
    ax.set_yticks(range(classes))
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
    """Probabilities over the last axis; NaN where a logit is."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities

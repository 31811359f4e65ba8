"""The layout of a page: no label is cut off or covered, and grids are aligned."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seqrnn.plots.layout import GridLayout

LABELS = ["y", "0.000000125", "a long name of a quantity, in units", "two\nlines"]


def page(parts: int = 1, **grid: Any) -> tuple[Figure, list[np.ndarray[Any, Any]]]:
    """Returns a page of grids of axes one below another, and the axes of each."""
    figure = Figure(figsize=(10, 6 * parts))
    FigureCanvasAgg(figure)
    figure.set_layout_engine(GridLayout())
    cut = figure.subfigures(parts, 1, squeeze=False)[:, 0]
    return figure, [part.subplots(**{"squeeze": False, **grid}) for part in cut]


def positions(axes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns (rows, columns, 4): left, below, width and height, as shares of the part."""
    return np.array([[ax.get_position().bounds for ax in row] for row in axes])


@pytest.mark.parametrize("parts", [1, 2])
def test_no_label_is_cut_off_or_covered(parts: int) -> None:
    figure, grids = page(parts, nrows=2, ncols=2)
    axes = [ax for grid in grids for ax in grid.flat]
    for number, ax in enumerate(axes):
        ax.set(ylabel=LABELS[number % 4], xlabel=LABELS[-1 - number % 4], title=LABELS[(number + 1) % 4])
        ax.plot([0, 10.0 ** (3 * number)])
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in axes]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_axes_of_a_column_or_a_row_are_aligned_and_sizes_have_their_ratios() -> None:
    figure, (axes,) = page(nrows=2, ncols=2, width_ratios=[1, 3], height_ratios=[2, 1])
    axes[0, 1].set_ylabel("far\nto\nthe\nleft")
    figure.draw_without_rendering()
    x, y, width, height = np.moveaxis(positions(axes), -1, 0)
    for found in (x[0] - x[1], width[0] - width[1], y[:, 0] - y[:, 1], height[:, 0] - height[:, 1]):
        np.testing.assert_allclose(found, 0, atol=1e-12)
    np.testing.assert_allclose(width[:, 1] / width[:, 0], 3)
    np.testing.assert_allclose(height[0] / height[1], 2)
    assert (y[0] > y[1] + height[1]).all()


def test_axes_keep_a_fifth_of_the_room_beside_labels_that_have_none() -> None:
    figure, (axes,) = page(nrows=1, ncols=3)
    for ax in axes.flat:
        ax.set_ylabel("\n".join(["line"] * 30))
    figure.draw_without_rendering()
    np.testing.assert_allclose(positions(axes)[..., 2].sum(), 0.2)


def test_a_part_without_axes_stays_empty() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.set_layout_engine(GridLayout())
    figure.subfigures(2, 1)[0].subplots()
    figure.draw_without_rendering()
    (ax,) = figure.get_axes()
    assert ax.get_position().width > 0.8

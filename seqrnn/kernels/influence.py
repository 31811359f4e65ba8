"""The influence of a cell's parameters on the state of a stream, J = ∂s_t/∂θ, one timestep after another.

What is needed of a cell comes from its kernels: its backward kernel, given one column for each number s_i of the
state and a gradient of 1 by that number, writes ∂s_i/∂s_{t−1} to D_STATE, and ∂s_i by the sums W x + U h + b to
SAVED. So each cell with a compiled twin has an influence.

Each stream has (L, S, C) numbers: for each layer the influence of all parameters on its S = parts · H numbers of
state; column c belongs to p[c], and C is where the parameters of the layers end. A layer has no influence on those
below it. Where each parameter has its influence on its own unit alone, there are (parts, C) numbers.
"""

from __future__ import annotations

from seqrnn.kernels import dispatch
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import clear, copy
from seqrnn.kernels.layout import (
    B_IN,
    B_STATE,
    BLOCKS,
    CELL_NUMBER,
    D_OUTPUT,
    D_STATE,
    INDEPENDENT,
    INPUT,
    INPUTS,
    NEXT_D_PART,
    NEXT_PART,
    OUTPUT,
    PARTS,
    PREVIOUS,
    PRODUCT,
    SAVED,
    SAVES,
    SCALED,
    SIZE,
    STATE_ROWS,
    W_IN,
    W_IN_T,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul
from seqrnn.kernels.simd import alwaysinline, fill, fma, lanes_of, load, noinline, store

PANEL = 256  # columns that are computed together: few enough that what they are computed from stays in the cache


@kernel
def linearise(c, w, layer, stream, first, own_unit):
    """Computes the derivatives of a layer's state after a timestep, in rows from ``first`` on.

    There is one row for each number of the state; with ``own_unit``, one for each part of it, for all units at once,
    which W_STATE_T then must not mix.
    """
    H, parts, width = layer[SIZE], layer[PARTS], layer[SAVES] * layer[SIZE]
    rows = parts if own_unit else parts * H
    for row in range(first, first + rows):
        copy(w, layer[SAVED] + stream * width, w, layer[SAVED] + row * width, width)
        for part in range(parts):
            begin = part * layer[NEXT_PART]
            copy(w, layer[PREVIOUS] + begin + stream * H, w, layer[PREVIOUS] + begin + row * H, H)
            copy(w, layer[OUTPUT] + begin + stream * H, w, layer[OUTPUT] + begin + row * H, H)
    clear(w, layer[D_OUTPUT] + first * H, rows * H)
    if layer[INDEPENDENT]:
        clear(w, layer[PRODUCT], rows * H)
    for part in range(parts):
        place = layer[D_STATE] + part * layer[NEXT_D_PART]
        clear(w, place, rows * H)
        for j in range(H):
            row = part if own_unit else part * H + j
            w[place + row * H + j] = 1
    dispatch.backward(c[CELL_NUMBER], w, layer, first, rows, True)


@kernel
def advance(c, w, layer, index, stream, first, end, end_below, columns, influence, below, place, scratch):
    """Computes the influence on a layer's state after a timestep of a stream.

    Args:
        index: the number of the layer.
        first: rows from there on are free.
        end: where the parameters of this layer end.
        end_below: where those of the layer below end.
        columns: C.
        below: where the influence on the layer below lies, after the same timestep.
        place: where the influence on this layer lies.
        scratch: room for (S, PANEL) + (S, H) numbers.
    """
    noinline()
    H, I, parts, width = layer[SIZE], layer[INPUTS], layer[PARTS], layer[SAVES] * layer[SIZE]
    N, rows = layer[BLOCKS] * H, parts * H
    linearise(c, w, layer, stream, first, False)
    by_input = rows * PANEL  # of scratch: derivatives by the outputs of the layer below
    if index:
        matmul(rows, I, N, w, layer[SAVED] + first * width, width, 1, w, layer[W_IN_T], I, scratch, by_input, I, 0)
    for begin in range(0, end, PANEL):
        count = min(PANEL, end - begin)
        for row in range(rows):
            copy(influence, place + row * columns + begin, scratch, row * PANEL, count)
        for part in range(parts):
            target = place + part * H * columns + begin
            for other in range(parts):
                block = layer[D_STATE] + other * layer[NEXT_D_PART] + part * H * H
                source = other * H * PANEL
                if is_diagonal(w, block, H):
                    scale_rows(w, block, H, count, scratch, source, influence, target, columns, other > 0)
                else:
                    matmul(
                        H, count, H, w, block, H, 1, scratch, source, PANEL, influence, target, columns, other > 0
                    )  # fmt: skip
        shared = min(count, end_below - begin)
        if shared > 0:
            matmul(
                rows, shared, I, scratch, by_input, I, 1, influence, below + begin, columns,
                influence, place + begin, columns, 1,
            )  # fmt: skip
    add_direct(w, layer, stream, first, rows, columns, influence, place)


@kernel
def is_diagonal(w, block, H):
    """Returns whether a matrix (H, H) is zero outside its diagonal."""
    alwaysinline()
    for i in range(H):
        for j in range(H):
            if i != j and w[block + i * H + j] != 0:
                return False
    return True


@kernel
def scale_rows(w, block, H, count, scratch, source, influence, target, columns, adding):
    """Computes diag(d) A, or adds it, with the diagonal d of the matrix at ``block``, and A (H, PANEL) in scratch."""
    alwaysinline()
    for i in range(H):
        factor = fill(w, w[block + i * H + i])
        for j in range(0, count, lanes_of(w)):
            remaining = count - j
            value = factor * load(scratch, source + i * PANEL + j, remaining)
            if adding:
                value = value + load(influence, target + i * columns + j, remaining)
            store(influence, target + i * columns + j, value, remaining)


@kernel
def add_direct(w, layer, stream, first, rows, columns, influence, place):
    """Adds the influence that the parameters have within the timestep alone.

    A derivative by the sum W x + U h + b of a unit is one by b, times x one by W, and times h one by U.
    """
    alwaysinline()
    H, I, width = layer[SIZE], layer[INPUTS], layer[SAVES] * layer[SIZE]
    N = layer[BLOCKS] * H
    unscaled = N - layer[SCALED] * H
    inputs, previous = layer[INPUT] + stream * I, layer[PREVIOUS] + stream * H
    for row in range(rows):
        saved, target = layer[SAVED] + (first + row) * width, place + row * columns
        for j in range(N):
            by_sum = w[saved + j]
            if by_sum != 0:  # most are zero: a sum is that of one unit
                for i in range(I):
                    influence[target + layer[W_IN] + i * N + j] += by_sum * w[inputs + i]
                if layer[B_IN] >= 0:
                    influence[target + layer[B_IN] + j] += by_sum
            by_state = by_sum if j < unscaled else w[saved + N + j - unscaled]
            if by_state != 0 and not layer[INDEPENDENT]:
                for i in range(layer[STATE_ROWS]):
                    influence[target + layer[W_STATE] + i * N + j] += by_state * w[previous + i]
                if layer[B_STATE] >= 0:
                    influence[target + layer[B_STATE] + j] += by_state
        if layer[INDEPENDENT]:
            for j in range(H):
                influence[target + layer[W_STATE] + j] += w[layer[PRODUCT] + row * H + j]


@kernel
def add_gradient(g, w, layer, stream, end, columns, influence, place):
    """Adds the gradient by all parameters up to ``end``, from that by the outputs of the top layer (D_OUTPUT)."""
    noinline()
    H = layer[SIZE]
    matmul(1, end, H, w, layer[D_OUTPUT] + stream * H, H, 1, influence, place, columns, g, 0, end, 1)


@kernel
def only_own_units(p, w, layer):
    """Writes to W_STATE_T what each unit receives from itself, and zero for what it receives from others."""
    alwaysinline()
    if layer[INDEPENDENT] or not layer[STATE_ROWS]:
        return
    H, N = layer[SIZE], layer[BLOCKS] * layer[SIZE]
    clear(w, layer[W_STATE_T], N * H)
    for j in range(N):
        w[layer[W_STATE_T] + j * H + j % H] = p[layer[W_STATE] + (j % H) * N + j]


@kernel
def advance_own_unit(c, g, w, layer, stream, first, columns, influence, place, scratch, is_valid):
    """Computes the influence of each parameter on its own unit after a timestep of a stream, (parts, C), and adds the
    gradient by the parameters, if the timestep has a target.

    Args:
        scratch: room for (parts, blocks · H) numbers, twice.
    """
    noinline()
    H, I, parts, width = layer[SIZE], layer[INPUTS], layer[PARTS], layer[SAVES] * layer[SIZE]
    N = layer[BLOCKS] * H
    linearise(c, w, layer, stream, first, True)
    saved = layer[SAVED] + first * width
    by_state, old = 0, parts * N  # of scratch
    for part in range(parts):
        unscaled = N - layer[SCALED] * H
        copy(w, saved + part * width, scratch, by_state + part * N, unscaled)
        copy(w, saved + part * width + N, scratch, by_state + part * N + unscaled, N - unscaled)
    common = c, g, w, layer, stream, columns, influence, place
    for i in range(I):
        x = w[layer[INPUT] + stream * I + i]
        own_row(*common, layer[W_IN] + i * N, N, w, saved, width, x, scratch, old, is_valid)
    if layer[B_IN] >= 0:
        own_row(*common, layer[B_IN], N, w, saved, width, w[0], scratch, old, is_valid)
    if layer[INDEPENDENT]:
        own_row(*common, layer[W_STATE], H, w, layer[PRODUCT], H, w[0], scratch, old, is_valid)
        return
    for i in range(layer[STATE_ROWS]):
        h = w[layer[PREVIOUS] + stream * H + i]
        own_row(*common, layer[W_STATE] + i * N, N, scratch, by_state, N, h, scratch, old, is_valid)
    if layer[B_STATE] >= 0:
        own_row(*common, layer[B_STATE], N, scratch, by_state, N, w[0], scratch, old, is_valid)


@kernel
def own_row(
    c, g, w, layer, stream, columns, influence, place, begin, count, direct_in, direct, next_direct, factor,
    scratch, old, is_valid,
):  # fmt: skip
    """Computes the influence of parameters ``begin`` to ``begin + count`` of a layer, and adds the gradient by them.

    Args:
        direct: where in ``direct_in`` the derivatives of the first part of the state by the sums begin;
            ``next_direct``: numbers to those of the next part.
        factor: what each sum contains these parameters times.
    """
    alwaysinline()
    H, parts = layer[SIZE], layer[PARTS]
    for part in range(parts):
        copy(influence, place + part * columns + begin, scratch, old + part * count, count)
    by_output, x = layer[D_OUTPUT] + stream * H, fill(w, factor)
    for part in range(parts):
        target = place + part * columns + begin
        for block in range(0, count, H):
            for j in range(0, H, lanes_of(w)):
                remaining = H - j
                value = x * load(direct_in, direct + part * next_direct + block + j, remaining)
                for other in range(parts):
                    transition = load(w, layer[D_STATE] + other * layer[NEXT_D_PART] + part * H + j, remaining)
                    value = fma(transition, load(scratch, old + other * count + block + j, remaining), value)
                store(influence, target + block + j, value, remaining)
                if is_valid and part == 0:
                    where = begin + block + j
                    found = fma(load(w, by_output + j, remaining), value, load(g, where, remaining))
                    store(g, where, found, remaining)

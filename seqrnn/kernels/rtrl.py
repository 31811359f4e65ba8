"""Whole updates by real-time recurrent learning in compiled code, one timestep after another.

The same as ``seqrnn.strategies.rtrl``: forward, head and loss of all streams side by side, then the influence of the
parameters on the state of each stream. A window here is no more than the timesteps that the schedule counts.
"""

from __future__ import annotations

import math

from seqrnn.kernels import head, influence, layers
from seqrnn.kernels.compiler import entry, kernel
from seqrnn.kernels.functions import clear, copy
from seqrnn.kernels.layout import (
    CELL_NUMBER,
    D_OUTPUT,
    D_READ,
    INPUT,
    INPUTS,
    LAYER_FIELDS,
    LAYERS,
    NEXT_PART,
    OUTPUT,
    PARAMETERS,
    PART_COUNT,
    PART_EPOCH,
    PART_EPOCHS,
    PART_FIELDS,
    PART_FIRST,
    PART_LAST,
    PARTS,
    PASSES,
    PREVIOUS,
    READ,
    SIZE,
    STREAMS,
    W_DATA,
    W_FIRST,
    W_IN,
    W_LENGTH,
    W_STREAMS,
)
from seqrnn.kernels.simd import alwaysinline, offset, pointer
from seqrnn.kernels.update import cut, finish_update


@kernel
def prepare(c, p, g, w, q, own_unit):
    """Computes what depends on the parameters alone, and sets the gradient to zero."""
    alwaysinline()
    clear(g, 0, c[PARAMETERS])
    for index in range(c[LAYERS]):
        layer = offset(q, index * LAYER_FIELDS)
        layers.prepare(p, w, layer, not own_unit, index > 0)
        if own_unit:
            influence.only_own_units(p, w, layer)
    head.prepare(p, w, c, offset(q, (c[LAYERS] - 1) * LAYER_FIELDS)[SIZE])


@kernel
def restart(c, q, stream, carried, influences, size):
    """Sets the state of a stream, and the influence on it, to those with which a sequence begins: zero."""
    alwaysinline()
    H, parts = q[SIZE], q[PARTS]
    for place in range(c[LAYERS] * parts):
        clear(carried, (place * c[STREAMS] + stream) * H, H)
    clear(influences, stream * size, size)


@kernel
def forward(c, p, w, q, streams, carried):
    """Computes one timestep of all streams, whose inputs are in place, in the first rows; replaces the states."""
    alwaysinline()
    for index in range(c[LAYERS]):
        layer = offset(q, index * LAYER_FIELDS)
        H, parts = layer[SIZE], layer[PARTS]
        layers.project(p, w, layer, streams)
        for part in range(parts):
            place = (index * parts + part) * c[STREAMS] * H
            copy(carried, place, w, layer[PREVIOUS] + part * layer[NEXT_PART], streams * H)
        layers.step(c[CELL_NUMBER], p, w, layer, 0, streams)
        for part in range(parts):
            place = (index * parts + part) * c[STREAMS] * H
            copy(w, layer[OUTPUT] + part * layer[NEXT_PART], carried, place, streams * H)


@kernel
def compare(c, p, g, w, top, streams, source, targets, labels, valid, rows, where):
    """Computes head and loss of those streams that have a target, the head's part of the gradient ``g``, and the
    gradient by the outputs of the top layer (D_OUTPUT); returns the summed loss and the number of targets."""
    alwaysinline()
    H, read = top[SIZE], 0
    for b in range(streams):
        if valid[source + b]:
            rows[read], where[read] = b, source + b
            read += 1
    if read == 0:
        return 0.0, 0
    for n in range(read):
        copy(w, top[OUTPUT] + rows[n] * H, w, c[READ] + n * H, H)
    head.forward(p, w, c, H, read, c[READ])
    loss = head.loss(w, c, read, where, targets, labels)
    head.backward(g, w, c, H, read, c[READ], c[D_READ])
    for n in range(read):
        copy(w, c[D_READ] + n * H, w, top[D_OUTPUT] + rows[n] * H, H)
    return loss, read


@kernel
def advance(c, g, w, q, streams, source, valid, influences, scratch, columns, own_unit):
    """Computes the influence on the states after a timestep, and adds the gradient by the cell's parameters."""
    alwaysinline()
    deep, first = c[LAYERS], c[STREAMS]
    top = offset(q, (deep - 1) * LAYER_FIELDS)
    rows = top[PARTS] if own_unit else top[PARTS] * top[SIZE]
    for b in range(streams):
        place = b * deep * rows * columns
        if own_unit:
            influence.advance_own_unit(
                c, g, w, top, b, first, columns, influences, place, scratch, valid[source + b]
            )  # fmt: skip
            continue
        end_below, below = 0, place
        for index in range(deep):
            layer = offset(q, index * LAYER_FIELDS)
            end = offset(q, (index + 1) * LAYER_FIELDS)[W_IN] if index + 1 < deep else columns
            influence.advance(
                c, w, layer, index, b, first, end, end_below, columns, influences, below, place, scratch
            )  # fmt: skip
            end_below, below, place = end, place, place + rows * columns
        if valid[source + b]:
            influence.add_gradient(g, w, top, b, columns, columns, influences, below)


@entry
def train_updates_forward(
    p_, g_, a_, b_, m_, w_, layers_, c_, o_, parts_, data_, targets_, labels_, valid_, starts_, carried_, windows_,
    flags_, rows_, where_, influences_, scratch_, columns, own_unit, rates, epochs, timesteps, losses, counts, norms,
):  # fmt: skip
    """Makes the updates of some parts, as ``seqrnn.kernels.update.train_updates`` does.

    Args:
        influences_: of the parameters on the state of each stream; see ``seqrnn.kernels.influence``.
        columns: where the parameters of the layers end in ``p_``.
        own_unit: 1: each parameter has its influence on its own unit alone.

    Returns:
        How many updates have been made, one that diverged included.
    """
    p, g, a, b, m, w = pointer(p_), pointer(g_), pointer(a_), pointer(b_), pointer(m_), pointer(w_)
    q, c, o, parts, data = pointer(layers_), pointer(c_), pointer(o_), pointer(parts_), pointer(data_)
    targets, labels, valid, starts = pointer(targets_), pointer(labels_), pointer(valid_), pointer(starts_)
    carried, window, rows, where = pointer(carried_), pointer(windows_), pointer(rows_), pointer(where_)
    influences, scratch = pointer(influences_), pointer(scratch_)

    top = offset(q, (c[LAYERS] - 1) * LAYER_FIELDS)
    size = c[LAYERS] * top[PARTS] * columns * (1 if own_unit else top[SIZE])  # of the influence of a stream
    I = q[INPUTS]
    made, passes, loss, count = 0, 0, 0.0, 0  # updates made; windows, loss and targets of the current one
    for index in range(len(parts_) // PART_FIELDS):
        part = offset(parts, index * PART_FIELDS)
        begin, end = part[PART_FIRST], part[PART_FIRST] + part[PART_COUNT]
        epoch, number = part[PART_EPOCH], begin - 1
        for _ in range(part[PART_EPOCHS] * part[PART_COUNT]):
            number += 1
            if number == end:
                epoch, number = epoch + 1, begin
            cut(c, part, number, window)
            if passes == 0:
                loss, count, timesteps[made] = 0.0, 0, 0
                epochs[made] = epoch
                prepare(c, p, g, w, q, own_unit)
            streams = window[W_STREAMS]
            for k in range(window[W_LENGTH]):
                source = window[W_DATA] + k * streams
                for stream in range(streams):
                    if starts[source + stream] or (k == 0 and window[W_FIRST]):
                        restart(c, q, stream, carried, influences, size)
                copy(data, source * I, w, q[INPUT], streams * I)
                forward(c, p, w, q, streams, carried)
                some, valid_ones = compare(
                    c, p, g, w, top, streams, source, targets, labels, valid, rows, where
                )  # fmt: skip
                advance(c, g, w, q, streams, source, valid, influences, scratch, columns, own_unit)
                loss, count = loss + some, count + valid_ones
            timesteps[made] += window[W_LENGTH] * streams
            passes += 1
            if passes < c[PASSES] and not (part[PART_LAST] and number == end - 1):
                continue
            passes = 0
            norms[made] = finish_update(c, p, g, a, b, m, o, loss, count, rates[made])
            losses[made], counts[made] = loss, count
            made += 1
            if not (math.isfinite(loss) and math.isfinite(norms[made - 1])):
                return made
    return made

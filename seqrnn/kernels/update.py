"""Whole updates in compiled code: windows, forward, loss, backward, averaging, clipping, optimizer step.

Between two optimizer steps the weights do not change, so the windows of an update are columns side by side: the
forward pass goes through them in order, since each begins with the state that an earlier one has reached, and keeps
what the backward pass needs; the head and the backward pass then take all of them at once.
"""

from __future__ import annotations

import math

from seqrnn.kernels import head, layers, steps
from seqrnn.kernels.compiler import entry, kernel
from seqrnn.kernels.functions import clear, copy
from seqrnn.kernels.layout import (
    CELL_NUMBER,
    CLIP_NORM,
    D_OUTPUT,
    D_READ,
    INPUT,
    INPUTS,
    KEPT,
    LAYER_FIELDS,
    LAYERS,
    LR,
    NEXT_PART,
    NO_STEP,
    OUTPUT,
    OVERLAP,
    PARAMETERS,
    PART_BEGIN,
    PART_COUNT,
    PART_DATA,
    PART_EPOCH,
    PART_EPOCHS,
    PART_FIELDS,
    PART_FIRST,
    PART_LAST,
    PART_STREAMS,
    PART_TIMESTEPS,
    PARTS,
    PASSES,
    PREVIOUS,
    READ,
    ROWS,
    SIZE,
    SLOTS,
    STEP_KIND,
    STEPS_MADE,
    STREAMS,
    STRIDE,
    W_COLUMN,
    W_DATA,
    W_FIRST,
    W_KEEP,
    W_LEAD,
    W_LENGTH,
    W_SLOT,
    W_STREAMS,
    WINDOW,
    WINDOW_FIELDS,
)
from seqrnn.kernels.simd import alwaysinline, offset, pointer


@kernel
def cut(c, part, number, window):
    """Writes where window ``number`` of a part's batch lies, as ``seqrnn.schedule`` cuts it, into its row."""
    alwaysinline()
    timesteps, streams = part[PART_TIMESTEPS], part[PART_STREAMS]
    stride = c[STRIDE] if c[STRIDE] > 0 else timesteps
    fresh = number * stride
    stop = min(fresh + stride, timesteps)
    start = max(0, fresh - c[OVERLAP]) if c[WINDOW] > 0 else 0
    keep = fresh + c[KEPT]
    slots = c[SLOTS]
    window[W_STREAMS] = streams
    window[W_LENGTH] = stop - start
    window[W_LEAD] = fresh - start
    window[W_DATA] = part[PART_DATA] + (start - part[PART_BEGIN]) * streams
    window[W_SLOT] = (number % slots if slots > 1 else 0) if slots else -1
    window[W_FIRST] = number == 0
    window[W_KEEP] = keep - start if slots and keep < timesteps else 0


@kernel
def gather(layer, windows, count, depth, columns, data, w, starts, flags):
    """Copies the inputs of the windows into rows of ``w``, and their ``starts`` into ``flags``."""
    alwaysinline()
    I, rows = layer[INPUTS], layer[INPUT]
    for n in range(count):
        window = offset(windows, n * WINDOW_FIELDS)
        streams, source = window[W_STREAMS], window[W_DATA]
        for k in range(window[W_LENGTH]):
            row = k * columns + window[W_COLUMN]
            copy(data, (source + k * streams) * I, w, rows + row * I, streams * I)
            for b in range(streams):
                flags[row + b] = starts[source + k * streams + b]
        for k in range(window[W_LENGTH], depth):  # a window that the end of its sequence has cut short
            row = k * columns + window[W_COLUMN]
            for b in range(streams):
                flags[row + b] = 0


@kernel
def begin_window(c, w, layer, window, carried, index):
    """Writes the state with which a window begins to its first row: a carried one, or zero.

    ``carried`` holds (streams, H) for each slot, layer and part of the state; ``index`` is the number of the layer.
    """
    alwaysinline()
    H, parts, slot = layer[SIZE], layer[PARTS], window[W_SLOT]
    count = window[W_STREAMS] * H
    size = c[STREAMS] * H  # of one part of the state of one layer
    if slot >= 0 and window[W_FIRST]:
        for other in range(c[SLOTS]):
            clear(carried, (other * c[LAYERS] + index) * parts * size, parts * size)
    for part in range(parts):
        previous = layer[PREVIOUS] + part * layer[NEXT_PART] + window[W_COLUMN] * H
        if slot < 0:
            clear(w, previous, count)
        else:
            copy(carried, ((slot * c[LAYERS] + index) * parts + part) * size, w, previous, count)


@kernel
def keep_state(c, w, layer, window, columns, carried, index):
    """Copies the state with which a later window begins to its slot of ``carried``."""
    alwaysinline()
    if window[W_KEEP] > 0:
        H, parts = layer[SIZE], layer[PARTS]
        size, count = c[STREAMS] * H, window[W_STREAMS] * H
        row = (window[W_KEEP] - 1) * columns + window[W_COLUMN]
        for part in range(parts):
            place = ((window[W_SLOT] * c[LAYERS] + index) * parts + part) * size
            copy(w, layer[OUTPUT] + part * layer[NEXT_PART] + row * H, carried, place, count)


@kernel
def recur(c, p, w, layer, index, windows, count, columns, carried, flags):
    """Runs a layer forward through the windows.

    As many of them run side by side as do not begin with a state that another of them still has to reach.
    """
    alwaysinline()
    together = c[SLOTS] if c[SLOTS] else count
    n = 0
    while n < count:
        end = n + 1
        while end < count and end - n < together:
            if c[SLOTS] and windows[end * WINDOW_FIELDS + W_FIRST]:
                break
            end += 1
        column = windows[n * WINDOW_FIELDS + W_COLUMN]
        rows, depth = 0, 0
        for other in range(n, end):
            window = offset(windows, other * WINDOW_FIELDS)
            rows += window[W_STREAMS]
            depth = max(depth, window[W_LENGTH])
            begin_window(c, w, layer, window, carried, index)
        for k in range(depth):
            row = k * columns + column
            if k == 0:
                layers.reset_states(w, layer, row, rows, flags)
            else:
                layers.continue_states(w, layer, row, row - columns, rows, flags)
            layers.step(c[CELL_NUMBER], p, w, layer, row, rows)
        for other in range(n, end):
            keep_state(c, w, layer, offset(windows, other * WINDOW_FIELDS), columns, carried, index)
        n = end


@kernel
def group(
    c, p, g, w, q, windows, count, depth, columns, data, targets, labels, valid, starts, carried, flags, rows_, where
):
    """Adds the gradient of some windows of an update to ``g``; returns their summed loss and number of targets."""
    alwaysinline()
    deep, rows = c[LAYERS], depth * columns
    gather(q, windows, count, depth, columns, data, w, starts, flags)
    for index in range(deep):
        layer = offset(q, index * LAYER_FIELDS)
        layers.project(p, w, layer, rows)
        recur(c, p, w, layer, index, windows, count, columns, carried, flags)

    top = offset(q, (deep - 1) * LAYER_FIELDS)
    H, read, whole = top[SIZE], 0, True
    for k in range(depth):
        for n in range(count):
            window = offset(windows, n * WINDOW_FIELDS)
            if not window[W_LEAD] <= k < window[W_LENGTH]:
                whole = False
                continue
            for b in range(window[W_STREAMS]):
                source = window[W_DATA] + k * window[W_STREAMS] + b
                if valid[source]:
                    rows_[read] = k * columns + window[W_COLUMN] + b
                    where[read] = source
                    read += 1
                else:
                    whole = False
    if read == 0:
        return 0.0, 0
    # Where every row has a target, the head reads the states, and writes their gradient, where they lie.
    from_, to = (top[OUTPUT], top[D_OUTPUT]) if whole else (c[READ], c[D_READ])
    if not whole:
        for n in range(read):
            copy(w, top[OUTPUT] + rows_[n] * H, w, from_ + n * H, H)
    head.forward(p, w, c, H, read, from_)
    loss = head.loss(w, c, read, where, targets, labels)
    head.backward(g, w, c, H, read, from_, to)
    if not whole:
        clear(w, top[D_OUTPUT], rows * H)
        for n in range(read):
            copy(w, to + n * H, w, top[D_OUTPUT] + rows_[n] * H, H)
    for index in range(deep - 1, -1, -1):
        layer = offset(q, index * LAYER_FIELDS)
        above = offset(q, (index - 1) * LAYER_FIELDS)[D_OUTPUT] if index else -1
        layers.backward(c[CELL_NUMBER], p, g, w, layer, depth, columns, flags, above, False)
    return loss, read


@kernel
def prepare(c, p, g, w, q):
    """Computes what depends on the parameters alone, and sets the gradient to zero."""
    alwaysinline()
    clear(g, 0, c[PARAMETERS])
    for index in range(c[LAYERS]):
        layers.prepare(p, w, offset(q, index * LAYER_FIELDS), c[WINDOW] != 1, index > 0)
    head.prepare(p, w, c, offset(q, (c[LAYERS] - 1) * LAYER_FIELDS)[SIZE])


@kernel
def finish_update(c, p, g, a, b, m, o, loss, count, rate):
    """Averages and clips the gradient of an update, and takes the step, unless the update has diverged or has no
    target; returns the norm of the average."""
    alwaysinline()
    scale = 1.0 / max(1, count)
    norm = math.sqrt(steps.squared_norm(g, c[PARAMETERS])) * scale
    if count and c[STEP_KIND] != NO_STEP and math.isfinite(loss) and math.isfinite(norm):
        if o[CLIP_NORM] > 0:
            scale *= min(1.0, o[CLIP_NORM] / (norm + 1e-6))
        o[LR] = rate
        c[STEPS_MADE] += 1
        steps.step(c[STEP_KIND], p, g, a, b, m, o, c[PARAMETERS], c[STEPS_MADE], scale)
    return norm


@entry
def apply_gradient(p_, g_, a_, b_, m_, c_, o_, loss, count, rate):
    """Does what ``finish_update`` does, for a gradient that several threads have computed."""
    p, g, a, b, m = pointer(p_), pointer(g_), pointer(a_), pointer(b_), pointer(m_)
    return finish_update(pointer(c_), p, g, a, b, m, pointer(o_), loss, count, rate)


@entry
def train_updates(
    p_, g_, a_, b_, m_, w_, layers_, c_, o_, parts_, data_, targets_, labels_, valid_, starts_, carried_, windows_,
    flags_, rows_, where_, rates, epochs, timesteps, losses, counts, norms,
):  # fmt: skip
    """Makes the updates of some parts, one after another, and writes their ``seqrnn.strategies.protocol.UpdateStats``
    to the last arrays. Stops after an update that has diverged, without its step.

    Returns:
        How many updates have been made, one that diverged included.
    """
    p, g, a, b, m, w = pointer(p_), pointer(g_), pointer(a_), pointer(b_), pointer(m_), pointer(w_)
    q, c, o, parts, data = pointer(layers_), pointer(c_), pointer(o_), pointer(parts_), pointer(data_)
    targets, labels, valid, starts = pointer(targets_), pointer(labels_), pointer(valid_), pointer(starts_)
    carried, windows, flags = pointer(carried_), pointer(windows_), pointer(flags_)
    rows, where = pointer(rows_), pointer(where_)

    made, passes, loss, count = 0, 0, 0.0, 0  # updates made; windows, loss and targets of the current one
    waiting, depth, columns = 0, 0, 0  # windows that have not been computed yet, and their extent
    for index in range(len(parts_) // PART_FIELDS):
        part = offset(parts, index * PART_FIELDS)
        begin, end = part[PART_FIRST], part[PART_FIRST] + part[PART_COUNT]
        epoch, number = part[PART_EPOCH], begin - 1
        for _ in range(part[PART_EPOCHS] * part[PART_COUNT]):
            number += 1
            if number == end:
                epoch, number = epoch + 1, begin
            window = offset(windows, waiting * WINDOW_FIELDS)
            cut(c, part, number, window)
            if passes == 0:
                loss, count, timesteps[made] = 0.0, 0, 0
                epochs[made] = epoch
                prepare(c, p, g, w, q)
            if waiting and max(depth, window[W_LENGTH]) * (columns + window[W_STREAMS]) > c[ROWS]:
                some, valid_ones = group(
                    c, p, g, w, q, windows, waiting, depth, columns, data, targets, labels, valid, starts, carried,
                    flags, rows, where,
                )  # fmt: skip
                loss, count = loss + some, count + valid_ones
                waiting, depth, columns = 0, 0, 0
                window = windows
                cut(c, part, number, window)
            window[W_COLUMN] = columns
            depth = max(depth, window[W_LENGTH])
            columns += window[W_STREAMS]
            waiting += 1
            timesteps[made] += (window[W_LENGTH] - window[W_LEAD]) * window[W_STREAMS]
            passes += 1
            ends = part[PART_LAST] and number == end - 1
            if passes < c[PASSES] and not ends:
                continue
            some, valid_ones = group(
                c, p, g, w, q, windows, waiting, depth, columns, data, targets, labels, valid, starts, carried,
                flags, rows, where,
            )  # fmt: skip
            loss, count = loss + some, count + valid_ones
            waiting, depth, columns = 0, 0, 0
            passes = 0
            norms[made] = finish_update(c, p, g, a, b, m, o, loss, count, rates[made])
            losses[made], counts[made] = loss, count
            made += 1
            if not (math.isfinite(loss) and math.isfinite(norms[made - 1])):
                return made
    return made

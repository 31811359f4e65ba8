"""What stands where in the tables of numbers that describe a network and a schedule to compiled code.

Compiled code knows no objects: a network is a flat array of parameters ``p``, its gradient is ``g``, what is
computed on the way lies in a flat array ``w``, and these tables hold sizes and the places where things begin.
"""

from __future__ import annotations

# Kinds of cell, head, loss and optimizer.
TANH, RELU, GRU, LSTM, IND_TANH, IND_RELU, IND_CLIP = range(7)  # from IND_TANH on, a unit hears only itself
LINEAR, MLP = range(2)
MSE, HALF_MSE, L1, CROSS_ENTROPY = range(4)
SGD, ADAM, NADAM, RADAM, RMSPROP, ADAGRAD, NONE = range(7)

# By kind of cell: blocks of H columns in the matrices, and numbers per hidden unit that the backward pass needs.
BLOCKS = (1, 1, 3, 4, 1, 1, 1)
GATES = (1, 1, 4, 4, 1, 1, 1)

# One row of the layers' table. Parameters, in p and g:
(
    INPUTS,  # I
    SIZE,  # H
    W_IN,  # (I, blocks · H)
    W_STATE,  # (H, blocks · H); of units that hear only themselves (H)
    B_IN,  # (blocks · H), or -1
    B_STATE,  # the same
    # In w, for each row (timestep, column) of the windows that are computed together:
    INPUT,  # (I)
    PREVIOUS,  # the state that the timestep begins with (H)
    GATE,  # gates · H
    OUTPUT,  # the state that it ends with (H)
    PREVIOUS_CELL,  # of an LSTM (H)
    CELL,  # (H)
    TANH_CELL,  # (H)
    D_OUTPUT,  # gradient of the loss by OUTPUT, from above (H)
    # For each column:
    PRODUCT,  # (blocks · H); of units that hear only themselves, gradient by W_STATE (H)
    D_STATE,  # gradient by PREVIOUS, from the timestep after (H)
    D_CELL,  # (H)
    # Once:
    BIAS,  # what the projections of the inputs start from (blocks · H)
    W_IN_T,  # (blocks · H, I)
    W_STATE_T,  # (blocks · H, H); of units that hear only themselves (H), repeated
    LAYER_FIELDS,
) = range(21)

# The table of everything else.
(
    CELL_KIND,
    LAYERS,
    HEAD_KIND,
    LOSS_KIND,
    STEP_KIND,
    PARAMETERS,  # length of p
    OUTPUTS,  # O
    HEAD_SIZE,
    HEAD_W,  # (H, HEAD_SIZE), in p
    HEAD_B,
    OUT_W,  # (HEAD_SIZE or H, O)
    OUT_B,
    READ,  # in w, for each row with a target: what the head reads (H)
    HIDDEN,  # (HEAD_SIZE)
    OUT,  # outputs, then the gradient by them (O)
    D_HIDDEN,  # (HEAD_SIZE)
    D_READ,  # (H)
    HEAD_W_T,
    OUT_W_T,
    STREAMS,  # the most streams of a batch: of a slot of the carried states
    WINDOW,  # the longest window; 0: it always begins with its sequence
    STRIDE,  # 0: whole sequences
    SLOTS,  # states that wait for a later window; 0: none is carried
    OVERLAP,  # timesteps by which a window begins before its fresh ones
    KEPT,  # timesteps from the first fresh one to the one before which the state is kept
    PASSES,  # windows in an update
    ROWS,  # rows that are computed together, at most (but at least one window)
    STEPS_MADE,  # by the optimizer
    FIELDS,
) = range(29)

# One row of the table of parts: consecutive windows of one batch.
(
    PART_STREAMS,
    PART_TIMESTEPS,  # of the whole batch
    PART_FIRST,  # number of the first window
    PART_COUNT,
    PART_LAST,  # whether an update that is under way is made at its end
    PART_BEGIN,  # the timestep that its data begins with
    PART_DATA,  # where that lies, in (timestep, stream) pairs
    PART_EPOCH,
    PART_EPOCHS,  # in a row that consist of just this part
    PART_FIELDS,
) = range(10)

# One row of the table of the windows that are computed together.
(
    W_STREAMS,
    W_COLUMN,  # the first of its columns
    W_LENGTH,
    W_LEAD,  # timesteps before the fresh ones
    W_DATA,  # where its first timestep lies, in (timestep, stream) pairs
    W_SLOT,  # where its initial state comes from, and where the kept one goes; -1: neither
    W_FIRST,  # whether its sequences begin with it
    W_KEEP,  # the timestep of the window before which the state is kept; 0: it is not
    WINDOW_FIELDS,
) = range(9)

# Numbers of the optimizer.
LR, MOMENTUM, NESTEROV, BETA1, BETA2, EPS, DECAY, DECOUPLED, AMSGRAD, ALPHA, CENTERED, MU, CLIP, OPTIMIZER_FIELDS = (
    range(14)
)

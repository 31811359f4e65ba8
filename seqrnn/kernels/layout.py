"""Where things lie in the arrays of numbers that describe a network and a schedule to compiled code.

Compiled code has no objects. A network is a flat array of parameters ``p``; its gradient is ``g``; everything that is
computed on the way lies in a flat array ``w``, the work space. The tables below hold sizes, and the places in those
arrays where things begin. Each table is a row of int64, or several rows one after another; the names below are the
columns. Compiled functions receive them as ``layer`` (one row of the layers' table), ``q`` (all its rows), ``c`` (the
table of the network and the schedule), ``part`` and ``window`` (one row each), and ``o`` (the numbers of the
optimizer, which are float64).

T timesteps, B streams, I inputs, H hidden units, O outputs. A column is one window of one stream; a row is one
timestep of a column.
"""

from __future__ import annotations

# --- Numbers that stand for a choice. -------------------------------------------------------------------------------

ACTIVATIONS = ("tanh", "relu", "clip", "linear", "positive")
TANH, RELU, CLIP, _, POSITIVE = range(5)
LINEAR, MLP = range(2)  # heads
MSE, HALF_MSE, L1, CROSS_ENTROPY, KNOWN_MSE, KNOWN_HALF_MSE, KNOWN_L1 = range(7)  # losses, the last of known targets
NO_STEP = -1  # in place of the number of an optimizer step: torch takes the step

# --- The layers' table: one row for each layer, ``layer``. ----------------------------------------------------------

(
    # From the specification of the cell:
    INPUTS,  # I
    SIZE,  # H
    BLOCKS,  # blocks of H columns in the matrices
    SCALED,  # of them, the last ones, whose part from the state is multiplied by a gate
    SAVES,  # numbers per unit that are saved for the backward pass
    PARTS,  # of the state
    INDEPENDENT,  # 1: each unit receives only itself from the state, and W_STATE is a vector (H)
    STATE_ROWS,  # of W_STATE: H, 1 where it is a vector, 0 where the sums have no part from the state
    ACTIVATION,
    # Places in p and in g:
    W_IN,  # (I, blocks · H)
    W_STATE,  # (H, blocks · H), or (H), or nothing
    B_IN,  # (blocks · H), or -1: there is none
    B_STATE,  # the same
    # Places in w of what each row has:
    INPUT,  # (I)
    PREVIOUS,  # the state before the timestep (H), first of all rows' first parts, then of all rows' second parts, …
    OUTPUT,  # the state after it, in the same order: its first part is the output
    NEXT_PART,  # numbers from one part of a state to the next one in PREVIOUS and OUTPUT
    SAVED,  # (saves · H): first W x + b, then what the forward pass saves, then the gradients by the sums
    D_OUTPUT,  # gradient of the loss by the output, from the layer above or the head (H)
    # Places in w of what each column has:
    PRODUCT,  # free for a cell's own use (blocks · H); of independent units the gradient by W_STATE
    D_STATE,  # gradient by the state, from later timesteps (H), in the order of PREVIOUS
    NEXT_D_PART,  # numbers from one part to the next one in D_STATE
    # Places in w of what there is once:
    BIAS,  # what W x is added to: the sum of the biases (blocks · H)
    W_IN_T,  # (blocks · H, I)
    W_STATE_T,  # (blocks · H, H), or W_STATE itself (H), repeated up to a vector beyond its end
    LAYER_FIELDS,
) = range(26)

# --- The table of the network and the schedule: a single row, ``c``. ------------------------------------------------

(
    CELL_NUMBER,  # in seqrnn.kernels.dispatch
    LAYERS,
    HEAD_KIND,
    LOSS_KIND,
    STEP_KIND,  # place in the table of seqrnn.kernels.steps, or NO_STEP
    PARAMETERS,  # length of p
    OUTPUTS,  # O
    # The head: places in p.
    HEAD_SIZE,
    HEAD_W,  # (H, HEAD_SIZE)
    HEAD_B,  # (HEAD_SIZE), or -1
    OUT_W,  # (HEAD_SIZE or H, O)
    OUT_B,  # (O), or -1
    # The head: places in w, for each row with a target.
    READ,  # what the head reads (H)
    HIDDEN,  # (HEAD_SIZE)
    OUT,  # outputs, then the gradient by them (O)
    D_HIDDEN,  # (HEAD_SIZE)
    D_READ,  # (H)
    # The head: places in w of what there is once.
    HEAD_W_T,
    OUT_W_T,
    # The schedule.
    STREAMS,  # the most streams of a batch: the size of a slot of the carried states
    WINDOW,  # the longest window; 0: each window begins with its sequence
    STRIDE,  # 0: whole sequences
    SLOTS,  # states that are kept for a later window; 0: none is carried
    OVERLAP,  # timesteps by which a window begins before its fresh ones
    KEPT,  # timesteps from the first fresh one to the one before which the state is kept
    PASSES,  # windows in an update
    ROWS,  # the most rows that are computed together (but at least one window)
    STEPS_MADE,  # by the optimizer
    FIELDS,
) = range(29)

# --- The table of parts: one row for consecutive windows of one batch, ``part``. ------------------------------------

(
    PART_STREAMS,
    PART_TIMESTEPS,  # of the whole batch
    PART_FIRST,  # number of the first window
    PART_COUNT,
    PART_LAST,  # 1: an update that has begun is made at the end of this part
    PART_BEGIN,  # the timestep that its data begins with
    PART_DATA,  # where that data lies, in (timestep, stream) pairs
    PART_EPOCH,
    PART_EPOCHS,  # consecutive epochs that consist of this part alone
    PART_FIELDS,
) = range(10)

# --- The table of the windows that are computed together: one row each, ``window``. ---------------------------------

(
    W_STREAMS,
    W_COLUMN,  # the first of its columns
    W_LENGTH,  # in timesteps
    W_LEAD,  # timesteps before the fresh ones
    W_DATA,  # where its first timestep lies, in (timestep, stream) pairs
    W_SLOT,  # where its initial state comes from, and where the kept one goes; -1: neither
    W_FIRST,  # 1: its sequences begin with it
    W_KEEP,  # the timestep of the window before which the state is kept; 0: it is not
    WINDOW_FIELDS,
) = range(9)

# --- Numbers of the optimizer, ``o``. -------------------------------------------------------------------------------

(
    LR,
    MOMENTUM,
    NESTEROV,  # 0 or 1
    BETA1,
    BETA2,
    EPS,
    DECAY,  # weight decay
    DECOUPLED,  # 0: the decay is added to the gradient; 1: it shrinks the parameters
    AMSGRAD,  # 0 or 1
    ALPHA,
    CENTERED,  # 0 or 1
    MU,  # the product of NAdam's momenta so far
    CLIP_NORM,  # 0: gradients are not clipped
    OPTIMIZER_FIELDS,
) = range(14)

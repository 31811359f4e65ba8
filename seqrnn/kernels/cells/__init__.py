"""The compiled twins of cells, one file each.

A twin computes one timestep of a cell, and the gradient of it. Its module has two kernels, both for ``rows`` columns
(each column is one window of one stream) that lie side by side from ``row`` on:

    forward(p, w, layer, row, rows)
        Reads the previous state (PREVIOUS), W x + b (SAVED) and U (W_STATE, in ``p``). Writes the new state (OUTPUT)
        and, to SAVED, what the backward pass needs.
    backward(w, layer, row, rows, through_time)
        Reads the gradient by the outputs (D_OUTPUT) and by the new state, as later timesteps have left it (D_STATE).
        Writes the gradients by the sums W x + U h + b to the first places of SAVED, and the gradient by the previous
        state to D_STATE (of the state's first part only if ``through_time``).

``seqrnn.kernels.layout`` says where these lie; ``seqrnn.kernels.layers`` computes what is the same for all cells. A
module in this folder is found by itself; one elsewhere is registered by
``seqrnn.kernels.specification.register_compiled``.
"""

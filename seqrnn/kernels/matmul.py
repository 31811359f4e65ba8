"""Products and transposes of small matrices that lie in flat arrays.

A BLAS is made for large matrices. At the sizes of a recurrent network (1 to 64 rows, 50 to 300 columns) it spends
most of its time outside the arithmetic. Here a product is cut into tiles whose result stays in registers from the
first term to the last (Goto & van de Geijn 2008, without the packing: small matrices lie in the cache as they are).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import copy
from seqrnn.kernels.simd import (
    I64,
    alwaysinline,
    broadcast,
    constant,
    fill,
    lanes,
    lanes_of,
    load,
    load_all,
    load_masked,
    load_some,
    mask,
    multiply_add,
    noinline,
    scalar_type,
    store,
    store_all,
    store_some,
    vector_type,
)
from seqrnn.kernels.target import TARGET

# By the rows of a tile, the most vectors side by side in it: as many sums as there are registers, apart from those
# for what is multiplied, and for products that are not added in the same instruction.
if TARGET.registers == 32:
    TILES = {8: 3, 4: 4, 2: 4, 1: 12}
elif TARGET.fused:
    TILES = {4: 3, 2: 4, 1: 8}
else:
    TILES = {4: 2, 2: 4, 1: 8}
IN_FLIGHT = 8  # additions that a processor computes at a time: two begin in each cycle, and each takes four
DEPTH = 256  # terms that are added up at a time, so that a strip of the right matrix stays in the first cache


def _i64(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _tile(module: ir.Module, dtype: types.Type, rows: int, vectors: int) -> ir.Function:
    """Returns the function that computes a tile of C = A B, or of C + A B: ``rows`` rows and ``vectors`` vectors.

    Its arguments are A with its row and column strides, B with its row stride, C with its row stride, the number of
    terms, the columns in the last vector, and whether to add.
    """
    name = f"seqrnn_tile_{dtype}_{rows}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    vector, width = vector_type(dtype), lanes(dtype)
    pointer = scalar_type(dtype).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I64, I64, pointer, I64, pointer, I64, I64, I64, I64])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, a_row, a_column, b, b_row, c, c_row, terms, remaining, adding = function.args
    build = ir.IRBuilder(function.append_basic_block())
    chosen = mask(build, remaining, dtype)
    cells = [(m, v) for m in range(rows) for v in range(vectors)]
    targets = {(m, v): build.gep(c, [build.add(build.mul(c_row, _i64(m)), _i64(v * width))]) for m, v in cells}

    def read(place: ir.Value, v: int) -> ir.Value:
        return load_masked(build, place, chosen, dtype) if v == vectors - 1 else load_all(build, place, dtype)

    # Each sum is one chain of additions, so a small tile keeps several sums for each result: one for every second
    # term, say, and one for those between.
    chains = max(1, IN_FLIGHT // len(cells))
    sums = {(*cell, chain): build.alloca(vector) for cell in cells for chain in range(chains)}
    for place in sums.values():
        build.store(constant(dtype, 0.0), place)
    with build.if_then(build.icmp_signed("!=", adding, _i64(0))):
        for m, v in cells:
            build.store(read(targets[m, v], v), sums[m, v, 0])

    def add_term(term: ir.Value, chain: int, whole: bool) -> None:
        begin = build.gep(b, [build.mul(term, b_row)])
        places = [build.gep(begin, [_i64(v * width)]) for v in range(vectors)]
        right = [load_all(build, place, dtype) if whole else read(place, v) for v, place in enumerate(places)]
        for m in range(rows):
            offset = build.add(build.mul(a_row, _i64(m)), build.mul(term, a_column))
            factor = broadcast(build, build.load(build.gep(a, [offset])), width)
            for v in range(vectors):
                total = multiply_add(build, factor, right[v], build.load(sums[m, v, chain]), dtype)
                build.store(total, sums[m, v, chain])

    multiple = build.sub(terms, build.srem(terms, _i64(chains)))

    def add_terms(whole: bool) -> None:
        with cgutils.for_range_slice(build, _i64(0), multiple, _i64(chains), I64) as (term, _):
            for chain in range(chains):
                add_term(build.add(term, _i64(chain)), chain, whole)
        with cgutils.for_range_slice(build, multiple, terms, _i64(1), I64) as (term, _):
            add_term(term, 0, whole)

    if TARGET.masks == "fast":
        add_terms(whole=False)
    else:
        with build.if_else(build.icmp_signed("==", remaining, _i64(width))) as (then, otherwise):
            with then:
                add_terms(whole=True)
            with otherwise:
                add_terms(whole=False)

    for m, v in cells:
        total = build.load(sums[m, v, 0])
        for chain in range(1, chains):
            total = build.fadd(total, build.load(sums[m, v, chain]))
        if v == vectors - 1:
            store_some(build, total, targets[m, v], remaining, dtype)
        else:
            store_all(build, total, targets[m, v], dtype)
    build.ret_void()
    return function


def _tiles_of(rows: int) -> Any:
    """Returns an intrinsic that computes ``rows`` rows of C from place ``c`` on, ``vectors`` vectors of each."""

    @intrinsic
    def tile(typing, A, a, a_row, a_column, B, b, b_row, C, c, c_row, terms, remaining, adding, vectors):
        def generate(context, builder, signature, arguments):
            A_, a_, a_row_, a_column_, B_, b_, b_row_, C_, c_, c_row_, terms_, remaining_, adding_, vectors_ = (
                arguments
            )
            places = [builder.gep(memory, [offset]) for memory, offset in ((A_, a_), (B_, b_), (C_, c_))]
            values = [places[0], a_row_, a_column_, places[1], b_row_, places[2], c_row_, terms_, remaining_, adding_]
            after = builder.append_basic_block()
            choice = builder.switch(vectors_, after)
            for count in range(1, TILES[rows] + 1):
                block = builder.append_basic_block()
                choice.add_case(_i64(count), block)
                with builder.goto_block(block):
                    builder.call(_tile(builder.module, A.dtype, rows, count), values)
                    builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        i = types.intp
        return types.void(A, i, i, i, B, i, i, C, i, i, i, i, i, i), generate

    return tile


def _stripes_of(rows: int) -> Any:
    tile, most = _tiles_of(rows), TILES[rows]

    @kernel
    def stripes(begin, end, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding):
        """Computes rows ``begin`` to ``end``, a whole number of tiles. It goes strip by strip through B, so that a
        strip stays in the cache."""
        alwaysinline()
        width = lanes_of(A)
        column = 0
        while column < N:
            vectors = min(most, (N - column + width - 1) // width)
            remaining = min(width, N - column - (vectors - 1) * width)
            for row in range(begin, end, rows):
                tile(
                    A, a + row * a_row, a_row, a_column, B, b + column, b_row, C, c + row * c_row + column, c_row,
                    K, remaining, adding, vectors,
                )  # fmt: skip
            column += vectors * width

    return stripes


HIGHEST = max(TILES)
_highest, _four, _two, _one = (_stripes_of(rows) for rows in (HIGHEST, 4, 2, 1))


@kernel
def _terms(M, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding):
    alwaysinline()
    row = M - M % HIGHEST
    if row:
        _highest(0, row, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding)
    if row + 4 <= M:
        _four(row, row + 4, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding)
        row += 4
    if row + 2 <= M:
        _two(row, row + 2, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding)
        row += 2
    if row < M:
        _one(row, M, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding)


@kernel
def _outer(M, N, A, a, a_row, B, b, C, c, c_row, adding):
    """Computes the product of one column and one row: the gradient of a matrix over a single timestep."""
    alwaysinline()
    width = lanes_of(A)
    for row in range(M):
        factor, place = fill(A, A[a + row * a_row]), c + row * c_row
        for column in range(0, N, width):
            remaining = N - column
            value = factor * load(B, b + column, remaining)
            if adding:
                value = value + load(C, place + column, remaining)
            store(C, place + column, value, remaining)


@kernel
def matmul(M, N, K, A, a, a_row, a_column, B, b, b_row, C, c, c_row, adding):
    """Computes C (M, N) = A (M, K) B (K, N), or adds it to C if ``adding``.

    A begins at A[a] and has strides for rows and columns, so it may be transposed. B and C begin at B[b] and C[c],
    and have a stride for rows, which are contiguous. K is at least 1.
    """
    noinline()
    if K == 1:
        _outer(M, N, A, a, a_row, B, b, C, c, c_row, adding)
        return
    for begin in range(0, K, DEPTH):
        depth = min(DEPTH, K - begin)
        _terms(
            M, N, depth, A, a + begin * a_column, a_row, a_column, B, b + begin * b_row, b_row, C, c, c_row,
            adding if begin == 0 else 1,
        )  # fmt: skip


@intrinsic
def _transpose_block(typing, A, a, a_row, C, c, c_row, rows, columns):
    """Transposes a square of as many rows and columns as a vector has lanes, or what remains of one."""

    def generate(context, builder, signature, arguments):
        A_, a_, a_row_, C_, c_, c_row_, rows_, columns_ = arguments
        dtype, width = A.dtype, lanes(A.dtype)
        source, target = builder.gep(A_, [a_]), builder.gep(C_, [c_])
        none = _i64(0)

        def within(row: int, count: ir.Value, remaining: ir.Value) -> ir.Value:
            return builder.select(builder.icmp_signed("<", _i64(row), count), remaining, none)

        block = []
        for row in range(width):
            place = builder.gep(source, [builder.mul(a_row_, _i64(row))])
            block.append(load_some(builder, place, within(row, rows_, columns_), dtype))
        half = width // 2
        while half:  # swap the off-diagonal quarters of ever smaller squares
            for row in range(width):
                if row & half:
                    continue
                above, below = block[row], block[row + half]
                for target_row, chosen in (
                    (row, [j if not j & half else width + j - half for j in range(width)]),
                    (row + half, [j + half if not j & half else width + j for j in range(width)]),
                ):
                    order = ir.Constant(ir.VectorType(ir.IntType(32), width), chosen)
                    block[target_row] = builder.shuffle_vector(above, below, order)
            half //= 2
        for row in range(width):
            remaining = within(row, columns_, rows_)
            with cgutils.if_likely(builder, builder.icmp_signed(">", remaining, none)):
                place = builder.gep(target, [builder.mul(c_row_, _i64(row))])
                store_some(builder, block[row], place, remaining, dtype)
        return context.get_dummy_value()

    i = types.intp
    return types.void(A, i, i, C, i, i, i, i), generate


@kernel
def transpose(M, N, A, a, a_row, C, c, c_row):
    """Computes C (N, M) = Aᵀ from A (M, N)."""
    noinline()
    if (M == 1 and c_row == 1) or (N == 1 and a_row == 1):
        copy(A, a, C, c, M * N)
        return
    width = lanes_of(A)
    for row in range(0, M, width):
        for column in range(0, N, width):
            _transpose_block(
                A, a + row * a_row + column, a_row, C, c + column * c_row + row, c_row, M - row, N - column
            )

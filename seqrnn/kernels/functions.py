"""exp, sigmoid, tanh and others on vectors, to a few units in the last place; copies and sums of rows."""

from __future__ import annotations

from math import factorial, log

from numba.extending import intrinsic

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.simd import (
    absolute,
    constant,
    fill,
    fma,
    lanes_of,
    load,
    multiply_add,
    nearest,
    power_of_two,
    store,
    where_greater,
    where_less,
    with_sign,
)

LOG2_E = 1 / log(2)
LARGEST = {32: 87.0, 64: 708.0}  # exp neither overflows nor loses digits up to here
# ln 2 in two parts: the first has so few digits that a whole number times it is exact (Cody & Waite 1980).
LN2 = {32: (0.693359375, -2.12194440054690583e-4), 64: (0.693145751953125, 1.42860682030941723212e-6)}
TERMS = {32: 7, 64: 13}  # of the series e^r − 1 = r + r²/2! + …, for |r| ≤ ½ ln 2


def _constant_for(table):
    """Returns a function of a vector that returns ``table``'s number for its precision in every lane."""

    @intrinsic
    def function(typing, like):
        def generate(context, builder, signature, arguments):
            return constant(like.dtype, table[like.dtype.bitwidth])

        return like(like), generate

    return function


largest, ln2_high, ln2_low = (
    _constant_for(table)
    for table in (LARGEST, {bits: parts[0] for bits, parts in LN2.items()}, {b: parts[1] for b, parts in LN2.items()})
)


@intrinsic
def series(typing, r):
    """Returns 1/2! + r/3! + r²/4! + … by Horner's rule, with as many terms as the precision needs."""

    def generate(context, builder, signature, arguments):
        count = TERMS[r.dtype.bitwidth]
        value = constant(r.dtype, 1 / factorial(count))
        for k in range(count - 1, 1, -1):
            value = multiply_add(builder, value, arguments[0], constant(r.dtype, 1 / factorial(k)), r.dtype)
        return value

    return r(r), generate


@kernel
def reduced(x):
    """Returns (n, p) with e^x = 2^n (1 + p)."""
    n = nearest(x * LOG2_E)
    r = x - n * ln2_high(x) - n * ln2_low(x)
    return n, fma(series(r), r * r, r)


@kernel
def exp(x):
    """Returns e^x for |x| up to LARGEST; beyond, the same as at LARGEST. NaN stays NaN."""
    x = where_greater(x, largest(x), largest(x), x)
    x = where_less(x, -1.0 * largest(x), -1.0 * largest(x), x)
    n, p = reduced(x)
    scale = power_of_two(n)
    return fma(scale, p, scale)


@kernel
def sigmoid(x):
    """Returns 1 / (1 + e^−x)."""
    return 1.0 / (1.0 + exp(-1.0 * x))


@kernel
def tanh(x):
    """Returns (e^2x − 1) / (e^2x + 1), computed from e^2|x| − 1, which is exact where x is small."""
    twice = absolute(x + x)
    limit = fill(x, 44.0)
    n, p = reduced(where_greater(twice, limit, limit, twice))
    scale = power_of_two(n)
    grown = fma(scale, p, scale - 1.0)
    return with_sign(grown / (grown + 2.0), x)


@kernel
def positive(x):
    """Returns x + 1/2 for x > 0, and sigmoid(x) otherwise."""
    zero = fill(x, 0.0)
    return where_greater(x, zero, x + 0.5, sigmoid(x))


@kernel
def slope_of_positive(y):
    """Returns the slope of ``positive`` where its value is y."""
    return where_greater(y, fill(y, 0.5), fill(y, 1.0), y * (1.0 - y))


@kernel
def copy(source, begin, target, start, count):
    """Sets target[start:start + count] = source[begin:begin + count]."""
    for j in range(0, count, lanes_of(target)):
        store(target, start + j, load(source, begin + j, count - j), count - j)


@kernel
def add(source, begin, target, start, count):
    """Sets target[start:start + count] += source[begin:begin + count]."""
    for j in range(0, count, lanes_of(target)):
        remaining = count - j
        store(target, start + j, load(target, start + j, remaining) + load(source, begin + j, remaining), remaining)


@kernel
def clear(target, start, count):
    """Sets target[start:start + count] = 0."""
    for j in range(0, count, lanes_of(target)):
        store(target, start + j, fill(target, 0.0), count - j)

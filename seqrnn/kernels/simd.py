"""Vectors as wide as the processor's registers, as a type of the compiled code.

LLVM does not vectorise the loops over gates by itself: they are short and read from many places. Here a vector is a
value: ``load`` reads one from memory, ``+ - * /`` and the functions below work on all lanes, ``store`` writes it
back. Loads and stores receive how many numbers of the row remain, and touch no others.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from seqrnn.kernels.target import TARGET

I32, I64 = ir.IntType(32), ir.IntType(64)
UNALIGNED = 1  # byte: the alignment of rows, which may begin anywhere


class Vector(types.Type):
    """The type of a vector: as many numbers as a register holds."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector_type(vector.dtype))


def lanes(dtype: types.Type) -> int:
    """Returns how many numbers a register holds."""
    return TARGET.vector_bytes // (dtype.bitwidth // 8)


def scalar_type(dtype: types.Type) -> ir.Type:
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def vector_type(dtype: types.Type) -> ir.VectorType:
    return ir.VectorType(scalar_type(dtype), lanes(dtype))


def constant(dtype: types.Type, value: float) -> ir.Constant:
    return ir.Constant(vector_type(dtype), [value] * lanes(dtype))


def broadcast(builder: ir.IRBuilder, value: ir.Value, count: int) -> ir.Value:
    """Returns a vector with the same number in every lane."""
    vector = ir.VectorType(value.type, count)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, count), [0] * count))


def mask(builder: ir.IRBuilder, remaining: ir.Value, dtype: types.Type) -> ir.Value:
    """Returns which lanes lie within the ``remaining`` numbers of a row."""
    count = lanes(dtype)
    order = ir.Constant(ir.VectorType(I32, count), list(range(count)))
    return builder.icmp_signed("<", order, broadcast(builder, builder.trunc(remaining, I32), count))


def call(builder: ir.IRBuilder, name: str, dtype: types.Type, *arguments: ir.Value) -> ir.Value:
    """Calls an intrinsic of LLVM that takes and returns vectors."""
    vector = vector_type(dtype)
    kind = ir.FunctionType(vector, [vector] * len(arguments))
    full_name = f"llvm.{name}.v{lanes(dtype)}f{dtype.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, full_name), arguments)


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, dtype: types.Type) -> ir.Value:
    """Returns a · b + c, rounded once where the processor can."""
    if TARGET.fused:
        return call(builder, "fma", dtype, a, b, c)
    return builder.fadd(builder.fmul(a, b), c)  # LLVM would call a function of the C library for each lane


def load_all(builder: ir.IRBuilder, place: ir.Value, dtype: types.Type) -> ir.Value:
    vector = builder.load(builder.bitcast(place, vector_type(dtype).as_pointer()))
    vector.align = UNALIGNED
    return vector


def load_masked(builder: ir.IRBuilder, place: ir.Value, chosen: ir.Value, dtype: types.Type) -> ir.Value:
    vector = vector_type(dtype)
    kind = ir.FunctionType(vector, [vector.as_pointer(), I32, chosen.type, vector])
    name = f"llvm.masked.load.v{lanes(dtype)}f{dtype.bitwidth}.p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    place = builder.bitcast(place, vector.as_pointer())
    return builder.call(function, [place, ir.Constant(I32, UNALIGNED), chosen, constant(dtype, 0.0)])


def load_some(builder: ir.IRBuilder, place: ir.Value, remaining: ir.Value, dtype: types.Type) -> ir.Value:
    """Loads the ``remaining`` lanes; the others are 0."""
    if TARGET.masks != "none":
        return load_masked(builder, place, mask(builder, remaining, dtype), dtype)
    whole = builder.icmp_signed(">=", remaining, ir.Constant(remaining.type, lanes(dtype)))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            all_lanes, after_all = load_all(builder, place, dtype), builder.block
        with otherwise:
            some_lanes = load_masked(builder, place, mask(builder, remaining, dtype), dtype)
            after_some = builder.block
    value = builder.phi(vector_type(dtype))
    value.add_incoming(all_lanes, after_all)
    value.add_incoming(some_lanes, after_some)
    return value


def store_all(builder: ir.IRBuilder, value: ir.Value, place: ir.Value, dtype: types.Type) -> None:
    builder.store(value, builder.bitcast(place, vector_type(dtype).as_pointer())).align = UNALIGNED


def store_some(
    builder: ir.IRBuilder, value: ir.Value, place: ir.Value, remaining: ir.Value, dtype: types.Type
) -> None:
    """Stores the ``remaining`` lanes. A whole vector needs no mask: what was stored with a mask is slow to read."""
    whole = builder.icmp_signed(">=", remaining, ir.Constant(remaining.type, lanes(dtype)))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            store_all(builder, value, place, dtype)
        with otherwise:
            _store_masked(builder, value, place, remaining, dtype)


def _store_masked(
    builder: ir.IRBuilder, value: ir.Value, place: ir.Value, remaining: ir.Value, dtype: types.Type
) -> None:
    vector, chosen = vector_type(dtype), mask(builder, remaining, dtype)
    kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, chosen.type])
    name = f"llvm.masked.store.v{lanes(dtype)}f{dtype.bitwidth}.p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [value, builder.bitcast(place, vector.as_pointer()), ir.Constant(I32, UNALIGNED), chosen])


@intrinsic
def pointer(typing: Any, array: types.Array) -> Any:
    """Returns the address of an array's numbers.

    Compiled functions pass pointers to each other, because passing an array counts references at each call, which
    takes longer than a small product. The caller of compiled code keeps the array alive.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return context.make_array(array)(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def pointer_to(typing: Any, like: types.Array, address: types.Type) -> Any:
    """Returns a pointer to numbers of ``like``'s type at an address, such as ``torch.Tensor.data_ptr`` returns."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[1], scalar_type(like.dtype).as_pointer())

    return types.CPointer(like.dtype)(like, types.intp), generate


@intrinsic
def lanes_of(typing: Any, like: types.Type) -> Any:
    """Returns how many numbers of ``like``'s type a vector holds."""
    return types.intp(like), lambda context, builder, signature, arguments: ir.Constant(I64, lanes(like.dtype))


@intrinsic
def load(typing: Any, memory: types.CPointer, index: types.Type, remaining: types.Type) -> Any:
    """Returns the vector at ``memory[index]``. Lanes beyond the ``remaining`` numbers of the row are 0."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        place = builder.gep(arguments[0], [arguments[1]])
        return load_some(builder, place, arguments[2], memory.dtype)

    return Vector(memory.dtype)(memory, types.intp, types.intp), generate


@intrinsic
def store(typing: Any, memory: types.CPointer, index: types.Type, value: Vector, remaining: types.Type) -> Any:
    """Writes the vector to ``memory[index]``. Lanes beyond the ``remaining`` numbers of the row are not written."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        place = builder.gep(arguments[0], [arguments[1]])
        store_some(builder, arguments[2], place, arguments[3], memory.dtype)
        return context.get_dummy_value()

    return types.void(memory, types.intp, value, types.intp), generate


@intrinsic
def fill(typing: Any, like: types.Type, value: types.Type) -> Any:
    """Returns a vector with ``value`` in every lane, of the type of ``like``'s numbers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        number = context.cast(builder, arguments[1], value, like.dtype)
        return broadcast(builder, number, lanes(like.dtype))

    return Vector(like.dtype)(like, value), generate


def _between_vectors(instruction: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Vector, b: Vector) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return getattr(builder, instruction)(*arguments)

        return a(a, b), generate

    return operation


def _overload_operator(python_operator: Any, instruction: str) -> None:
    operation = _between_vectors(instruction)

    @overload(python_operator)
    def implementation(a, b):
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: operation(a, b)
        if isinstance(a, Vector) and isinstance(b, types.Number):
            return lambda a, b: operation(a, fill(a, b))
        if isinstance(a, types.Number) and isinstance(b, Vector):
            return lambda a, b: operation(fill(b, a), b)
        return None


_overload_operator(operator.add, "fadd")
_overload_operator(operator.sub, "fsub")
_overload_operator(operator.mul, "fmul")
_overload_operator(operator.truediv, "fdiv")


def _on_lanes(name: str) -> Any:
    """Returns a function of one vector that is an intrinsic of LLVM."""

    @intrinsic
    def function(typing: Any, a: Vector) -> Any:
        return a(a), lambda context, builder, signature, arguments: call(builder, name, a.dtype, *arguments)

    return function


absolute = _on_lanes("fabs")
square_root = _on_lanes("sqrt")


@intrinsic
def nearest(typing: Any, a: Vector) -> Any:
    """Returns the nearest whole number. |a| is at most 2^20."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        if TARGET.rounds:
            return call(builder, "rint", a.dtype, *arguments)
        # Added to this number, whose last digit counts ones, a fraction has no place left.
        large = constant(a.dtype, 1.5 * 2.0 ** (23 if a.dtype.bitwidth == 32 else 52))
        return builder.fsub(builder.fadd(arguments[0], large), large)

    return a(a), generate


@intrinsic
def fma(typing: Any, a: Vector, b: Vector, c: Vector) -> Any:
    """Returns a · b + c, rounded once where the processor can."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return multiply_add(builder, *arguments, a.dtype)

    return a(a, a, a), generate


@intrinsic
def with_sign(typing: Any, a: Vector, b: Vector) -> Any:
    """Returns |a| with the sign of b."""
    return a(a, a), lambda context, builder, signature, arguments: call(builder, "copysign", a.dtype, *arguments)


def _select(comparison: str) -> Any:
    @intrinsic
    def function(typing: Any, a: Vector, b: Vector, then: Vector, otherwise: Vector) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            a, b, then, otherwise = arguments
            return builder.select(builder.fcmp_ordered(comparison, a, b), then, otherwise)

        return a(a, a, a, a), generate

    return function


where_less = _select("<")  # (a, b, then, otherwise): then where a < b, else otherwise; NaN is not less
where_greater = _select(">")


@intrinsic
def sum_of(typing: Any, a: Vector) -> Any:
    """Returns the sum over the lanes, added in pairs, always in the same order."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        (value,), count = arguments, lanes(a.dtype)
        while count > 1:
            count //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(
                    value, undefined, ir.Constant(ir.VectorType(I32, count), list(range(begin, begin + count)))
                )
                for begin in (0, count)
            ]
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(I32, 0))

    return a.dtype(a), generate


@intrinsic
def power_of_two(typing: Any, exponent: Vector) -> Any:
    """Returns 2 to a whole number within the range of exponents, by writing it into the exponent's bits."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        dtype = exponent.dtype
        shift, bias = (23, 127) if dtype.bitwidth == 32 else (52, 1023)
        whole = ir.VectorType(ir.IntType(dtype.bitwidth), lanes(dtype))
        bits = builder.fptosi(arguments[0], whole)
        bits = builder.add(bits, ir.Constant(whole, [bias] * lanes(dtype)))
        bits = builder.shl(bits, ir.Constant(whole, [shift] * lanes(dtype)))
        return builder.bitcast(bits, vector_type(dtype))

    return exponent(exponent), generate


@intrinsic
def offset(typing: Any, memory: types.CPointer, index: types.Type) -> Any:
    """Returns a pointer to element ``index`` of the memory."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.gep(arguments[0], [arguments[1]])

    return memory(memory, types.intp), generate


@intrinsic
def noinline(typing: Any) -> Any:
    """Marks the function that it is called in: its code is not copied into its callers, so compiling stays short."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def alwaysinline(typing: Any) -> Any:
    """Marks the function that it is called in: its code is copied into its callers: they are few, or it is short."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), generate

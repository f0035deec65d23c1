"""The preprocessing of a detector as ONNX nodes: any 8-bit RGB picture in, normalised planes out.

ONNX has a Resize with antialiasing, but it rounds otherwise than Pillow, by up to a level a pixel, and a
Tiny-LaDeDa score moves with the least of that. So the resize is written out as Pillow does it
(https://github.com/python-pillow/Pillow, src/libImaging/Resample.c): coefficients in float64, brought to 22
binary digits after the point, summed in integers and rounded to 8 bits, along rows and then along columns
(in tall pictures the other way round). The outcome is the same to the bit. One tap of the kernel is summed
at a time, so that memory stays at a few times the picture.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from train.transforms import Preprocessing

DIGITS = 22
"""Binary digits after the point of a Pillow coefficient: 32 bits less 8 of the pixel and 2 to spare."""

INPUT = "image"
RESIZED = "wildrf/resized"
NORMALISED = "wildrf/normalised"
"""Names of what lies between the steps: (n, size, size, 3) uint8 and (n, 3, size, size) float32."""


class Nodes:
    """Nodes under construction; names count up, so that the same graph is always the same file."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def constant(self, value: Any, dtype: type[np.generic]) -> str:
        """The name of a constant."""
        name = f"{self._prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op: str, *inputs: str, into: str | None = None, **attributes: Any) -> str:
        """The name of the outcome of a node."""
        name = into or f"{self._prefix}n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def cast(self, name: str, kind: int, into: str | None = None) -> str:
        """`name` as another type."""
        return self.add("Cast", name, into=into, to=kind)


def preprocessing_model(
    preprocessing: Preprocessing, opset: int, ir_version: int
) -> onnx.ModelProto:
    """From `image` (n, height, width, 3) uint8 to NORMALISED, (n, 3, size, size) float32."""
    build = Nodes("wildrf/")
    side = preprocessing.size
    resized = resize(build, INPUT, preprocessing)
    build.add("Identity", resized, into=RESIZED)
    floats = build.add("Transpose", build.cast(RESIZED, TensorProto.FLOAT), perm=[0, 3, 1, 2])
    for op, values in (("Div", 255.0), ("Sub", preprocessing.mean), ("Div", preprocessing.std)):
        column = build.constant(np.reshape(values, (1, -1, 1, 1)), np.float32)
        floats = build.add(op, floats, column)
    build.add("Identity", floats, into=NORMALISED)
    graph = helper.make_graph(
        build.nodes,
        "wildrf",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info(NORMALISED, TensorProto.FLOAT, ["n", 3, side, side])],
        build.constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = ir_version
    return made


def resize(build: Nodes, image: str, preprocessing: Preprocessing) -> str:
    """`image` as `train.transforms.to_pixels` leaves it, (n, size, size, 3) uint8."""
    shape, size = build.add("Shape", image), preprocessing.size
    height, width = (build.add("Gather", shape, build.constant(axis, np.int64)) for axis in (1, 2))
    kept_height, kept_width = height, width
    if preprocessing.fit != "stretch":
        kept_height = kept_width = build.add("Min", height, width)
    if preprocessing.fit == "native":
        kept_height = kept_width = build.add("Min", kept_height, build.constant(size, np.int64))
    fits = build.add(
        "And", *(build.add("Equal", v, build.constant(size, np.int64)) for v in (height, width))
    )
    work = Nodes("wildrf/resize/")
    down = (1, *coefficients(work, height, kept_height, size))
    across = (2, *coefficients(work, width, kept_width, size))
    resized = work.add(
        "If",
        _is_tall(work, height, width, size),
        then_branch=_passes(image, (down, across), "wildrf/tall/"),
        else_branch=_passes(image, (across, down), "wildrf/wide/"),
    )
    as_it_is = Nodes("wildrf/asis/")
    same = as_it_is.add("Identity", image)
    return build.add(
        "If", fits, then_branch=_branch(as_it_is, same), else_branch=_branch(work, resized)
    )


def _branch(build: Nodes, outcome: str) -> onnx.GraphProto:
    """Nodes as a branch of an If, whose outcome is a picture."""
    picture = helper.make_tensor_value_info(outcome, TensorProto.UINT8, [None] * 4)
    return helper.make_graph(build.nodes, "branch", [], [picture], build.constants)


def _is_tall(build: Nodes, height: str, width: str, size: int) -> str:
    """Whether columns come first: since version 13, where height shrinks more than twice as much as width.

    Source: https://github.com/python-pillow/Pillow/pull/9549; the rule as measured on version 13.0.0.
    """
    side, zero = build.constant(size, np.int64), build.constant(0, np.int64)
    shrinks = build.add("Max", build.add("Sub", width, side), zero)
    return build.add("Greater", build.add("Sub", height, side), build.add("Add", shrinks, shrinks))


Pass = tuple[int, str, str]
"""An axis with the places and the weights of its coefficients."""


def _passes(image: str, passes: tuple[Pass, Pass], prefix: str) -> onnx.GraphProto:
    """A branch: two passes in this order."""
    build = Nodes(prefix)
    for axis, places, weights in passes:
        image = resample(build, image, axis, places, weights)
    return _branch(build, image)


def coefficients(build: Nodes, length: str, kept: str, size: int) -> tuple[str, str]:
    """Where each of `size` outputs looks and how much it takes, both (size, taps) int.

    `kept` of `length` pixels are resized, those in the middle; at its ends the kernel looks past them, as
    Pillow's does, and at the ends of the picture it is cut.
    """
    double, whole = TensorProto.DOUBLE, TensorProto.INT64
    two, half = build.constant(2, np.int64), build.constant(0.5, np.float64)
    start = build.cast(build.add("Div", build.add("Sub", length, kept), two), double)
    scale = build.add("Div", build.cast(kept, double), build.constant(size, np.float64))
    support = build.add("Max", scale, build.constant(1, np.float64))
    middles = build.constant(np.arange(size).reshape(-1, 1) + 0.5, np.float64)
    centre = build.add("Add", build.add("Mul", middles, scale), start)  # (size, 1)
    low = build.cast(build.add("Add", build.add("Sub", centre, support), half), whole)
    high = build.cast(build.add("Add", build.add("Add", centre, support), half), whole)
    zero, one = build.constant(0, np.int64), build.constant(1, np.int64)
    low, high = build.add("Max", low, zero), build.add("Min", high, length)
    twice = build.cast(build.add("Add", support, support), whole)
    taps = build.add("Range", zero, build.add("Add", twice, one), one)
    places = build.add("Add", low, taps)  # (size, taps)
    inside = build.add("Less", places, high)
    offsets = build.add("Add", build.add("Sub", build.cast(places, double), centre), half)
    unity, nothing = build.constant(1, np.float64), build.constant(0, np.float64)
    shrink = build.add("Div", unity, support)  # times this, not divided by that: as Pillow rounds
    distances = build.add("Abs", build.add("Mul", offsets, shrink))
    triangle = build.add("Max", build.add("Sub", unity, distances), nothing)
    raw = build.add("Where", inside, triangle, nothing)
    total = build.add("ReduceSum", raw, build.constant([1], np.int64), keepdims=1)
    unit = build.constant(1 << DIGITS, np.float64)
    fixed = build.add("Add", build.add("Mul", build.add("Div", raw, total), unit), half)
    last = build.add("Sub", length, one)
    return build.add("Min", places, last), build.cast(fixed, TensorProto.INT32)


def resample(build: Nodes, image: str, axis: int, places: str, weights: str) -> str:
    """`image` uint8 with its `axis` resampled: rounded sums of weighted pixels, one tap at a time."""
    shape = build.add("Shape", image)
    before = build.add("Slice", shape, *(build.constant([v], np.int64) for v in (0, axis)))
    after = build.add("Slice", shape, *(build.constant([v], np.int64) for v in (axis + 1, 4)))
    size, taps = (build.add("Shape", places, start=at, end=at + 1) for at in (0, 1))
    room = build.add("Concat", before, size, after, axis=0)
    rounding = helper.make_tensor("value", TensorProto.INT32, [1], [1 << (DIGITS - 1)])
    start = build.add("ConstantOfShape", room, value=rounding)
    body = _one_tap(image, axis, places, weights, f"{image}/tap/")
    count = build.add("Squeeze", taps)
    total = build.add("Loop", count, "", start, body=body)
    return build.cast(
        build.add("Div", total, build.constant(1 << DIGITS, np.int32)), TensorProto.UINT8
    )


def _one_tap(image: str, axis: int, places: str, weights: str, prefix: str) -> onnx.GraphProto:
    """The body of the loop: one more pixel, times its weight, for every output."""
    tap, go_on, so_far = f"{prefix}tap", f"{prefix}on", f"{prefix}sum"
    build = Nodes(prefix)
    pixels = build.add("Gather", image, build.add("Gather", places, tap, axis=1), axis=axis)
    shape = [-1 if a == axis else 1 for a in range(4)]
    weight = build.add(
        "Reshape", build.add("Gather", weights, tap, axis=1), build.constant(shape, np.int64)
    )
    product = build.add("Mul", build.cast(pixels, TensorProto.INT32), weight)
    total = build.add("Add", so_far, product)
    still = build.add("Identity", go_on)
    any_shape: list[str | None] = [None] * 4
    return helper.make_graph(
        build.nodes,
        "tap",
        [
            helper.make_tensor_value_info(tap, TensorProto.INT64, []),
            helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
            helper.make_tensor_value_info(so_far, TensorProto.INT32, any_shape),
        ],
        [
            helper.make_tensor_value_info(still, TensorProto.BOOL, []),
            helper.make_tensor_value_info(total, TensorProto.INT32, any_shape),
        ],
        build.constants,
    )

#!/usr/bin/env python3
"""Trains the detector of this example, and writes it as bars.onnx and bars.tflite beside this file.

    python3 -m pip install jax numpy onnx ai-edge-litert
    python3 train.py

The model has 18 thousand weights and finds bars of the eight colors that television test pictures have. It has seen only
pictures that `draw` below makes, so it is an example of a model's input and output, and of no other use.

Input: 1x3x128x128 (bars.tflite: 1x128x128x3), RGB from 0 to 1, letterboxed with gray 114.
Output: 1x12x16x16 (bars.tflite: 1x16x16x12). For each cell of 8x8 pixels, 8 logits say how likely the center of a bar of
each color is there, and 4 numbers give the distance from the cell's center to the left, upper, right and lower edge of
the bar, in cells.
"""

import pathlib

import numpy as np

SIDE, CELL, COLORS = 128, 8, 8
CELLS = SIDE // CELL
CENTERS = (np.arange(SIDE) + 0.5).astype(np.float32)
# Outputs, stride and dilation of each convolution of 3x3. The last one is of 1x1.
LAYERS = [(8, 2, 1), (16, 2, 1), (16, 2, 1), (24, 1, 1), (24, 1, 2), (24, 1, 3)]
OUTPUTS = COLORS + 4
# White, yellow, cyan, green, magenta, red, blue, black.
RGB = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]], np.float32)


def draw(random):
    """A picture of bars, and its target: heat of each color, distances, and where the target counts."""
    height = random.choice([72, 80, 96])
    bar = random.uniform(11, 24)
    slant = random.choice([0, random.uniform(-0.35, 0.35)])
    order = random.permutation(COLORS) if random.random() < 0.5 else np.arange(COLORS)
    palette = RGB * random.uniform(0.65, 1) + random.uniform(0, 0.06)
    x, y = np.meshgrid(CENTERS, CENTERS)
    position = (x + slant * (y - SIDE / 2)) / bar + random.uniform(8, 64)
    # Some bars have another color, and are not to be found.
    is_bar, others = random.random(96) < 0.85, random.uniform(0.25, 0.6, (96, 3))
    colors = np.where(is_bar[:, None], palette[order[np.arange(96) % COLORS]], others)
    # Four samples of each pixel, for soft edges.
    samples = [colors[np.floor(position + dx / bar).astype(int)] for dx in (-0.375, -0.125, 0.125, 0.375)]
    inside = np.abs(y - SIDE / 2) <= height / 2
    picture = np.mean(samples, 0) + random.normal(0, random.uniform(0, 0.03), (SIDE, SIDE, 3))
    picture = np.clip(np.where(inside[..., None], picture, 114 / 255), 0, 1)

    heat, sides = np.zeros((CELLS, CELLS, COLORS), np.float32), np.zeros((CELLS, CELLS, 4), np.float32)
    best, counts = np.zeros((CELLS, CELLS), np.float32), np.ones((CELLS, CELLS, COLORS), np.float32)
    at = (np.arange(CELLS, dtype=np.float32) + 0.5) * CELL
    numbers = np.floor(position).astype(int)
    for number in np.unique(numbers[inside]):
        mask, color = (numbers == number) & inside, order[number % COLORS]
        if not is_bar[number]:
            continue
        # Pixels whose centers are in the bar: half a pixel is added to each side.
        left, right = x[mask].min() - 0.5, x[mask].max() + 0.5
        upper, lower = y[mask].min() - 0.5, y[mask].max() + 0.5
        across, down = np.meshgrid(at - (left + right) / 2, at - (upper + lower) / 2)
        near = np.exp(-(across**2 + down**2) / (2 * (0.7 * CELL) ** 2)).astype(np.float32)
        if mask.sum() < 0.4 * bar * height:
            counts[..., color][near > 0.05] = 0  # A piece at the edge may be found or not.
            continue
        heat[..., color] = np.maximum(heat[..., color], near)
        here = near > np.maximum(best, 0.3)
        distances = np.stack(np.broadcast_arrays(
            at[None, :] - left, at[:, None] - upper, right - at[None, :], lower - at[:, None]), -1) / CELL
        sides[here], best[here] = distances[here], near[here]
    return picture, heat, sides, best, counts


def train(steps=8000, batch=32):
    """Returns the weights and biases of each layer, in the order height, width, input, output."""
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(26)
    shapes, inputs = [], 3
    for outputs, _, _ in LAYERS:
        shapes.append((3, 3, inputs, outputs))
        inputs = outputs
    shapes.append((1, 1, inputs, OUTPUTS))
    weights = [
        (random.normal(0, (2 / np.prod(s[:3])) ** 0.5, s).astype(np.float32), np.zeros(s[3], np.float32)) for s in shapes
    ]
    weights[-1][1][:COLORS] = -4

    def run(weights, x):
        for (w, b), (_, stride, dilation) in zip(weights, LAYERS + [(0, 1, 1)]):
            edge = dilation * (w.shape[0] // 2)
            x = jax.lax.conv_general_dilated(
                x, w, (stride, stride), [(edge - (stride == 2), edge)] * 2, rhs_dilation=(dilation, dilation),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ) + b  # fmt: skip
            x = jax.nn.relu(x) if w.shape[0] == 3 else x
        return x

    def loss(weights, x, heat, sides, best, counts):
        out = run(weights, x)
        logits = out[..., :COLORS]
        entropy = jnp.maximum(logits, 0) - logits * heat + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        boxes = jnp.abs(out[..., COLORS:] - sides).sum(-1) * best
        return ((entropy * counts).sum() + boxes.sum()) / len(x)

    @jax.jit
    def step(weights, mean, square, n, data):
        value, slope = jax.value_and_grad(loss)(weights, *data)
        rate = 4e-3 * 0.5 * (1 + jnp.cos(jnp.pi * n / steps))
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g * g, square, slope)
        move = lambda w, m, s: w - rate * (m / (1 - 0.9 ** (n + 1))) / (jnp.sqrt(s / (1 - 0.99 ** (n + 1))) + 1e-8)
        return jax.tree.map(move, weights, mean, square), mean, square, value

    pool = [draw(random) for _ in range(12000)]
    mean = square = jax.tree.map(np.zeros_like, weights)
    for n in range(steps):
        chosen = [pool[i] for i in random.integers(len(pool), size=batch)]
        data = [np.stack(part).astype(np.float32) for part in zip(*chosen)]
        weights, mean, square, value = step(weights, mean, square, float(n), data)
        if n % 200 == 0 or n == steps - 1:
            print(n, float(value), flush=True)
    return [(np.asarray(w), np.asarray(b)) for w, b in weights]


def write_onnx(weights, path):
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes, constants, name = [], [], "input"
    for i, ((w, b), (_, stride, dilation)) in enumerate(zip(weights, LAYERS + [(0, 1, 1)])):
        constants += [numpy_helper.from_array(w.transpose(3, 2, 0, 1).copy(), f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        edge, last = dilation * (w.shape[0] // 2), w.shape[0] == 1
        begin = edge - (stride == 2)
        out = "output" if last else f"conv{i}"
        nodes.append(helper.make_node(
            "Conv", [name, f"w{i}", f"b{i}"], [out], strides=[stride] * 2, dilations=[dilation] * 2,
            pads=[begin, begin, edge, edge], kernel_shape=w.shape[:2]))
        name = f"relu{i}"
        if not last:
            nodes.append(helper.make_node("Relu", [out], [name]))
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])
    graph = helper.make_graph(
        nodes, "bars", [value("input", 3, SIDE, SIDE)], [value("output", OUTPUTS, CELLS, CELLS)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, path)


def write_tflite(weights, path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    def filled(kind, **fields):
        made = kind()
        for field, value in fields.items():
            setattr(made, field, value)
        return made

    buffers, tensors, operators = [s.BufferT()], [], []

    def tensor(name, shape, values=None):
        if values is not None:
            buffers.append(filled(s.BufferT, data=np.frombuffer(values.astype("<f4").tobytes(), np.uint8)))
        buffer = 0 if values is None else len(buffers) - 1
        tensors.append(filled(s.TensorT, name=name, shape=list(shape), type=s.TensorType.FLOAT32, buffer=buffer))
        return len(tensors) - 1

    side, at = SIDE, tensor("input", (1, SIDE, SIDE, 3))
    for i, ((w, b), (_, stride, dilation)) in enumerate(zip(weights, LAYERS + [(0, 1, 1)])):
        side, last = side // stride, w.shape[0] == 1
        w = w.transpose(3, 0, 1, 2)
        inputs = [at, tensor(f"w{i}", w.shape, w), tensor(f"b{i}", b.shape, b)]
        at = tensor("output" if last else f"relu{i}", (1, side, side, len(b)))
        options = filled(
            s.Conv2DOptionsT, padding=s.Padding.SAME, strideH=stride, strideW=stride, dilationHFactor=dilation,
            dilationWFactor=dilation,
            fusedActivationFunction=s.ActivationFunctionType.NONE if last else s.ActivationFunctionType.RELU)
        operators.append(filled(
            s.OperatorT, opcodeIndex=0, inputs=inputs, outputs=[at], builtinOptionsType=s.BuiltinOptions.Conv2DOptions,
            builtinOptions=options))
    graph = filled(s.SubGraphT, tensors=tensors, inputs=[0], outputs=[at], operators=operators, name="bars")
    code = filled(
        s.OperatorCodeT, builtinCode=s.BuiltinOperator.CONV_2D, deprecatedBuiltinCode=s.BuiltinOperator.CONV_2D, version=2)
    model = filled(s.ModelT, version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers, description="bars")
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    trained = train()
    write_onnx(trained, here / "bars.onnx")
    write_tflite(trained, here / "bars.tflite")

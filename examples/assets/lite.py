"""EfficientNet-Lite: published PyTorch checkpoints as our weight files. Needs nothing but Python."""

import io
import json
import math
import pickle
import struct
import sys
from array import array
from collections import OrderedDict

# repeats, kernel, stride, expand ratio, channels in, channels out of each group of blocks of Lite0
GROUPS = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
          (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]
# side of the input in pixels, and by how many tenths the groups are as wide and as deep as those of Lite0
VARIANTS = {"lite0": (224, 10, 10), "lite1": (240, 10, 11), "lite2": (260, 11, 12)}
BATCH_NORM_EPSILON = 1e-3


def blocks(variant):
    """Yields (kernel, stride, expand ratio, channels in, channels out) of each inverted residual block."""
    _, width, depth = VARIANTS[variant]
    stem = GROUPS[0][4]
    for group, (repeats, kernel, stride, expand, cin, cout) in enumerate(GROUPS):
        # The first and the last group are as deep in every variant, and what the stem gives is as wide.
        if 0 < group < len(GROUPS) - 1:
            repeats = -(-repeats * depth // 10)
        cin, cout = (c if c == stem else (c * width + 40) // 80 * 8 for c in (cin, cout))
        for repeat in range(repeats):
            yield (kernel, stride, expand, cin, cout) if repeat == 0 else (kernel, 1, expand, cout, cout)


def load_checkpoint(data):
    """Reads the tensors (shape, values) of a PyTorch checkpoint of the legacy (not zip) kind, running no code from it."""
    kinds = {"FloatStorage": "f", "LongStorage": "q"}
    storages = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if module == "torch" and name in kinds:
                return name
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
            if (module, name) == ("collections", "OrderedDict"):
                return OrderedDict
            raise pickle.UnpicklingError(f"checkpoint names {module}.{name}")

        def persistent_load(self, pid):
            storages[pid[2]] = kinds[pid[1]]
            return pid[2]

    file = io.BytesIO(data)
    for _ in range(3):  # magic number, protocol version, system information
        Unpickler(file).load()
    state = Unpickler(file).load()
    arrays = {}
    for key in Unpickler(file).load():
        [count] = struct.unpack("<q", file.read(8))
        values = array(storages[key])
        values.frombytes(file.read(count * values.itemsize))
        if sys.byteorder == "big":
            values.byteswap()
        arrays[key] = values

    def tensor(key, offset, shape, strides):
        *outer, (size, stride) = zip(shape, strides) if shape else [(1, 1)]
        starts = [offset]
        for count, step in outer:
            starts = [start + i * step for start in starts for i in range(count)]
        values = array(arrays[key].typecode)
        for start in starts:
            values.extend(arrays[key][start:start + (size - 1) * stride + 1:stride])
        return shape, values

    return {name: tensor(*view) for name, view in state.items()}


def fold(state, variant):
    """Folds batch norms into the convolutions and lays the weights out for NHWC: (shape, values) of 32-bit floats."""
    out = {}

    def floats(values):
        return array("f", values)

    def rows(name):
        (count, *rest), values = state[name]
        size = math.prod(rest)
        return rest, [values[i * size:(i + 1) * size] for i in range(count)]

    def turned(name, rows):
        """Rows of an output each as columns."""
        values = floats(bytes(4 * len(rows) * len(rows[0])))
        for i, row in enumerate(rows):
            values[i::len(rows)] = row
        out[name + ".w"] = ((len(rows[0]), len(rows)), values)

    def conv(name, weight, norm):
        gain, bias, mean, variance = (state[f"{norm}.{part}"][1] for part in ("weight", "bias", "running_mean", "running_var"))
        # Each step is rounded to 32 bits, as if it were computed in them.
        [epsilon] = floats([BATCH_NORM_EPSILON])
        deviation = floats(map(math.sqrt, floats(v + epsilon for v in variance)))
        scale = floats(g / d for g, d in zip(gain, deviation))
        (_, *kernel), kernels = rows(weight + ".weight")
        taps = math.prod(kernel)
        kernels = [floats(w * s for w in row) for row, s in zip(kernels, scale)]
        # From [cout, cin of the group, ky, kx] to [ky, kx, cin of the group] x cout.
        turned(name, [floats(w for tap in range(taps) for w in row[tap::taps]) for row in kernels])
        moved = floats(m * s for m, s in zip(mean, scale))
        out[name + ".b"] = ((len(bias),), floats(b - m for b, m in zip(bias, moved)))

    conv("stem", "_conv_stem", "_bn0")
    for i, (_, _, expand, _, _) in enumerate(blocks(variant)):
        if expand != 1:
            conv(f"block{i}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        conv(f"block{i}.depthwise", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        conv(f"block{i}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    conv("head.conv", "_conv_head", "_bn1")
    turned("head.fc", rows("_fc.weight")[1])
    out["head.fc.b"] = state["_fc.bias"]
    return out


def safetensors(tensors, metadata):
    """The tensors in half precision, as a file in the safetensors format."""
    header, data = {"__metadata__": metadata}, []
    offset = 0
    for name, (shape, values) in tensors.items():
        data.append(struct.pack(f"<{len(values)}e", *values))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + len(data[-1])]}
        offset += len(data[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def converted(checkpoint, variant):
    """The weight file of a variant out of its checkpoint."""
    side = VARIANTS[variant][0]
    metadata = {"architecture": f"efficientnet-{variant}", "input": f"1x{side}x{side}x3"}
    for i, (kernel, stride, expand, cin, cout) in enumerate(blocks(variant)):
        metadata[f"block{i}"] = f"k={kernel},s={stride},expand={expand},cin={cin},cout={cout}"
    return safetensors(fold(load_checkpoint(checkpoint), variant), metadata)

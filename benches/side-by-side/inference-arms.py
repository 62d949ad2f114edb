"""The arms of ./inference: builds the networks as ONNX out of our weight files and has all answer in turn."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

ASSETS = Path("examples/assets")
sys.path.append(str(ASSETS))
import lite

MODELS = Path(os.environ.get("SCF_MODELS") or
              Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scf" / "models")
TOKENS, HIDDEN, HEADS, LAYERS = 128, 384, 12, 6


class Graph:
    """Nodes and constants of a network, each node named after its number."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind, *inputs, **attributes):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(kind, names, [f"n{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def model(self, source, result, shape):
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "network", [source], [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model.SerializeToString()


def minilm():
    w, g = load_file(MODELS / "minilm-l6.safetensors"), Graph()

    def linear(x, name):
        return g.node("Add", g.node("MatMul", x, w[name + ".weight"].T), w[name + ".bias"])

    def norm(x, name):
        return g.node("LayerNormalization", x, w[name + ".weight"], w[name + ".bias"], axis=-1, epsilon=1e-12)

    positions = w["embeddings.position_embeddings.weight"][:TOKENS] + w["embeddings.token_type_embeddings.weight"][0]
    x = g.node("Add", g.node("Gather", w["embeddings.word_embeddings.weight"], "x"), positions)
    x = norm(x, "embeddings.LayerNorm")
    heads, flat = np.int64([1, TOKENS, HEADS, HIDDEN // HEADS]), np.int64([1, TOKENS, HIDDEN])
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        q, k, v = (g.node("Transpose", g.node("Reshape", linear(x, name + "attention.self." + part), heads), perm=perm)
                   for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])))
        scores = g.node("Mul", g.node("MatMul", q, k), np.float32((HIDDEN // HEADS) ** -0.5))
        y = g.node("Transpose", g.node("MatMul", g.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = linear(g.node("Reshape", y, flat), name + "attention.output.dense")
        x = norm(g.node("Add", y, x), name + "attention.output.LayerNorm")
        y = linear(x, name + "intermediate.dense")
        # The pattern that onnxruntime makes its own fused GELU of.
        erf = g.node("Erf", g.node("Div", y, np.float32(2 ** 0.5)))
        y = g.node("Mul", g.node("Mul", y, g.node("Add", erf, np.float32(1))), np.float32(0.5))
        x = norm(g.node("Add", linear(y, name + "output.dense"), x), name + "output.LayerNorm")
    y = g.node("ReduceMean", x, axes=[1], keepdims=0)
    y = g.node("Div", y, g.node("ReduceL2", y, axes=[1], keepdims=1))
    source = helper.make_tensor_value_info("x", TensorProto.INT64, [1, TOKENS])
    return g.model(source, y, [1, HIDDEN]), lambda ids: ids.reshape(1, TOKENS).astype(np.int64)


def efficientnet(variant):
    name = f"efficientnet-{variant}.safetensors"
    w = load_file(next(path for folder in (ASSETS, MODELS) if (path := folder / name).exists()))
    w, g = {name: value.astype(np.float32) for name, value in w.items()}, Graph()

    def conv(x, name, size, kernel=1, stride=1, groups=1, relu6=True):
        weights = w[name + ".w"]
        columns = weights.shape[1]
        weights = weights.reshape(kernel, kernel, -1, columns).transpose(3, 2, 0, 1)
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        y = g.node("Conv", x, weights, w[name + ".b"], kernel_shape=[kernel] * 2, strides=[stride] * 2, group=groups,
                   pads=pads)
        return g.node("Clip", y, np.float32(0), np.float32(6)) if relu6 else y

    side = lite.VARIANTS[variant][0]
    x, size = conv("x", "stem", side, 3, 2), -(-side // 2)
    for i, (kernel, stride, expand, cin, cout) in enumerate(lite.blocks(variant)):
        y = x if expand == 1 else conv(x, f"block{i}.expand", size)
        y = conv(y, f"block{i}.depthwise", size, kernel, stride, cin * expand)
        size = -(-size // stride)
        y = conv(y, f"block{i}.project", size, relu6=False)
        x = g.node("Add", x, y) if stride == 1 and cin == cout else y
    y = g.node("Flatten", g.node("GlobalAveragePool", conv(x, "head.conv", size)))
    y = g.node("Add", g.node("MatMul", y, w["head.fc.w"]), w["head.fc.b"])
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])
    return g.model(source, y, [1, 1000]), lambda photo: np.ascontiguousarray(
        photo.reshape(1, side, side, 3).transpose(0, 3, 1, 2))


def session(model, threads, spin):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Process:
    """A peer that answers each line with the nanoseconds that an inference took and what it gave."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        return int(answer[0]) / 1e6, np.float32(answer[1:])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Onnxruntime:
    def __init__(self, model, x, threads, spin):
        self.session, self.x = session(model, threads, spin), x

    def ask(self):
        start = time.perf_counter_ns()
        [outputs] = self.session.run(None, {"x": self.x})
        took = time.perf_counter_ns() - start
        # Its threads spin for up to a tenth of a second after an answer: the next arm would have a core less.
        spinning = True
        while spinning:
            before = time.process_time()
            time.sleep(0.01)
            spinning = time.process_time() - before > 0.001
        return took / 1e6, outputs.ravel()

    def end(self):
        pass


def scf(name, threads, folder):
    """Our process, and the input that it is about to take."""
    command = ["cargo", "bench", "--quiet", "-p", "scf-ai", "--bench", "cpu", "--", "--serve", name, str(threads)]
    peer = Process(*command, folder / "ours")
    peer.process.stdout.readline()
    return peer, np.fromfile(folder / "ours", "<f4")


def tract(model, x, folder):
    (folder / "model.onnx").write_bytes(model)
    (folder / "input").write_bytes(x.tobytes())
    kind = {"int64": "i64", "float32": "f32"}[x.dtype.name]
    return Process(os.environ["SCF_TRACT"], folder / "model.onnx", folder / "input", kind, ",".join(map(str, x.shape)))


def compare(what, peers, rounds):
    """How many times longer ours takes than each peer, which take turns, and how far their answers are from ours."""
    times, off = {name: [] for name in peers}, 0
    for round in range(rounds + 5):
        answers = {name: peer.ask() for name, peer in peers.items()}
        for name, (took, outputs) in answers.items():
            off = max(off, np.abs(answers["scf"][1] - outputs).max())
            if off > 1e-3:
                sys.exit(f"{what}: the answers of scf and {name} differ by {off}")
            if round >= 5:
                times[name].append(took)
    for peer in peers.values():
        peer.end()
    medians = {name: statistics.median(arm) for name, arm in times.items()}
    said = ", ".join(f"{name} {median:.2f} ms" for name, median in medians.items())
    print(f"{what}: {said}, answers within {off:.1e}", file=sys.stderr)
    return {name: medians["scf"] / median for name, median in medians.items()}, off


def figure(bar, value, unit, rounds):
    print(f'{{"bar":"{bar}","value":{value},"unit":"{unit}","n":{rounds}}}', flush=True)


def main():
    rounds = 15 if "--quick" in sys.argv else 101
    networks = {"minilm": minilm} | {variant: partial(efficientnet, variant) for variant in lite.VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, build in networks.items():
            model, laid_out = build()
            ours, x = scf(name, 1, folder)
            x = laid_out(x)
            # tract has no threads: it is compared at one.
            peers = {"scf": ours, "onnxruntime": Onnxruntime(model, x, 1, False), "tract": tract(model, x, folder)}
            ratios, off = compare(f"{name}, 1 thread", peers, rounds)
            figure(f"ai.{name}.vs_ort_1t", f"{ratios['onnxruntime']:.3f}", "ratio", rounds)
            figure(f"ai.{name}.vs_tract_1t", f"{ratios['tract']:.3f}", "ratio", rounds)
            if name == "minilm":
                # The figure is of the faster of both settings.
                found = []
                for spin in (False, True):
                    peers = {"scf": scf(name, 2, folder)[0], "onnxruntime": Onnxruntime(model, x, 2, spin)}
                    found.append(compare(f"{name}, 2 threads, spinning {'on' if spin else 'off'}", peers, rounds))
                figure(f"ai.{name}.vs_ort_2t", f"{max(ratios['onnxruntime'] for ratios, _ in found):.3f}", "ratio", rounds)
                off = max(off, *(off for _, off in found))
            figure(f"ai.{name}.vs_peers_max_abs_diff", f"{off:.2e}", "abs", rounds)


if __name__ == "__main__":
    main()

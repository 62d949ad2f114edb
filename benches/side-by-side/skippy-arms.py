"""The arms of benches/side-by-side/skippy: OURS ROUNDS SECONDS."""

import json
import statistics
import subprocess
import sys
import time

from skippy.core.clustercontext import ClusterContext
from skippy.core.model import Capacity, Container, ImageState, Node, Pod, PodSpec, ResourceRequirements
from skippy.core.scheduler import Scheduler
from skippy.core.storage import DataItem, StorageIndex

MIB, GIB = 2**20, 2**30
NODES = (100, 1_000, 10_000)
KINDS = ["rpi"] * 12 + ["jetson"] * 5 + ["nuc", "store", "cloud"]
MEMORY = {"rpi": 1, "jetson": 8, "nuc": 16, "store": 16, "cloud": 8}
IMAGES = {
    "prepare:1": {"arm": 465_830_200, "arm64": 540_391_110, "amd64": 533_323_136},
    "train:1": {"arm": 519_336_111, "arm64": 594_174_340, "amd64": 550_683_347},
    "serve:1": {"arm": 511_888_808, "arm64": 590_989_596, "amd64": 589_680_790},
}
DATA = {"raw": 12 * MIB, "train": 209 * MIB, "model": 1500 * 1024}
READ, WRITE = "data.skippy.io/receives-from-storage/path", "data.skippy.io/sends-to-storage/path"
# Function, memory, GPU, what it reads and writes.
PODS = [("prepare", 100, False, "raw", "train"), ("train", 1024, True, "train", "model"), ("serve", 200, False, "model", None)]


def node(at):
    kind = KINDS[at % len(KINDS)]
    arch = {"rpi": "arm", "jetson": "arm64"}.get(kind, "amd64")
    labels = {"beta.kubernetes.io/arch": arch, "locality.skippy.io/type": "cloud" if kind == "cloud" else "edge"}
    if kind == "jetson":
        labels["capability.skippy.io/nvidia-cuda"] = "10"
        labels["capability.skippy.io/nvidia-gpu"] = ""
    if kind == "store":
        labels["data.skippy.io/storage"] = ""
    capacity = [Capacity(4000, MEMORY[kind] * GIB) for _ in range(2)]
    return Node(f"{kind}-{at}", *capacity, labels)


class Cluster(ClusterContext):
    """Bandwidths by rule: Skippy's own table of every pair would have 10^8 entries at 10,000 nodes."""

    def __init__(self, count):
        self.nodes = [node(at) for at in range(count)]
        self.cloud = {n.name for n in self.nodes if n.labels["locality.skippy.io/type"] == "cloud"} | {"registry"}
        super().__init__()
        self.storage_index = StorageIndex()
        stores = [n.name for n in self.nodes if "data.skippy.io/storage" in n.labels]
        for bucket in range(64):
            self.storage_index.mb(f"b{bucket}", stores[bucket % len(stores)])
            for item, size in DATA.items():
                self.storage_index.put(DataItem(f"b{bucket}", item, size))

    def get_init_image_states(self):
        return {image: ImageState(dict(sizes)) for image, sizes in IMAGES.items()}

    def get_bandwidth_graph(self):
        return {}

    def list_nodes(self):
        return self.nodes

    def get_next_storage_node(self, node):
        raise NotImplementedError

    def get_dl_bandwidth(self, a, b):
        far = (a in self.cloud) + (b in self.cloud)
        return 1.25e8 if a == b or far == 2 else 1.25e7 if far == 1 else 1.25e6


def pod(at):
    name, mib, gpu, read, write = PODS[at % 3]
    labels = {READ: f"b{at % 64}/{read}"}
    if write:
        labels[WRITE] = f"b{at % 64}/{write}"
    if gpu:
        labels.update({"capability.skippy.io/nvidia-cuda": "10", "capability.skippy.io/nvidia-gpu": ""})
    needs = ResourceRequirements({"cpu": 100, "memory": mib * MIB})
    return Pod(f"p{at}", "fn", PodSpec([Container(f"{name}:1", needs)], labels))


class Skippy:
    def __init__(self, count, share):
        self.cluster = Cluster(count)
        self.scheduler = Scheduler(self.cluster, percentage_of_nodes_to_score=share)
        self.at = 0

    def run(self, seconds):
        start, done = time.process_time(), 0
        while (spent := time.process_time() - start) < seconds or done < 3:
            each = pod(self.at)
            result = self.scheduler.schedule(each)
            if result.suggested_host is None:
                raise SystemExit(f"Skippy placed nothing for {each.name}")
            self.cluster.remove_pod_from_node(each, result.suggested_host)
            self.at += 1
            done += 1
        return done / spent, done


def ours(program, count, seconds):
    line = subprocess.run([program, "--bench", str(count), str(seconds)], check=True, capture_output=True, text=True).stdout
    said = json.loads(line.splitlines()[-1])
    return said["decisions_per_cpu_s"], said["decisions"]


def main():
    program, rounds, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    table = []
    for count in NODES:
        adaptive, every = Skippy(count, 0), Skippy(count, 100)
        arms = [("scf", lambda: ours(program, count, seconds)), ("skippy", lambda: adaptive.run(seconds)), ("skippy-all", lambda: every.run(seconds))]
        seen = {name: [] for name, _ in arms}
        total = 0
        for turn in range(rounds):
            for name, arm in arms[turn % 3 :] + arms[: turn % 3]:
                rate, done = arm()
                seen[name].append(rate)
                total += done
        medians = {name: statistics.median(rates) for name, rates in seen.items()}
        table.append((count, medians))
        for name, rate in medians.items():
            figure(f"sched.{name}.{count}.decisions_per_cpu_s", rate, "1/s", rounds)
        figure(f"sched.vs_skippy.{count}", medians["scf"] / medians["skippy"], "ratio", total)
        figure(f"sched.vs_skippy_all.{count}", medians["scf"] / medians["skippy-all"], "ratio", total)
    print(f"{'nodes':>7} {'scf':>12} {'Skippy':>10} {'Skippy, all nodes':>18}   decisions per CPU second", file=sys.stderr)
    for count, rates in table:
        print(f"{count:>7} {rates['scf']:>12.0f} {rates['skippy']:>10.0f} {rates['skippy-all']:>18.1f}", file=sys.stderr)


def figure(bar, value, unit, n):
    print(json.dumps({"bar": bar, "value": round(value, 2), "unit": unit, "n": n}), flush=True)


main()

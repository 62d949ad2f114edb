"""The arms of benches/side-by-side/llamacpp: SmolLM2-135M in Q4_1, a prompt of 128 tokens and 32 more, one thread.

What is compared is CPU time of the process, since both compute on one thread and other programs may run beside them.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import xllamacpp

# As the bench has it.
PROMPT = [1000 + i * 37 for i in range(128)]
MORE = 32


def model():
    folder = os.environ.get("SCF_MODELS")
    folder = Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scf/models"
    return folder / "smollm2-135m-instruct.q4_1.gguf"


def peer():
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model())
    parameters.n_ctx = 2048
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(parameters)


def took(server, tokens):
    """CPU milliseconds of a completion that is computed anew."""
    start = time.process_time_ns()
    answer = server.handle_completions({"prompt": PROMPT, "n_predict": tokens, "temperature": 0.0,
                                        "cache_prompt": False, "ignore_eos": True})
    if answer["usage"]["completion_tokens"] != tokens:
        sys.exit(f"llama.cpp: {answer}")
    return (time.process_time_ns() - start) / 1e6


def main():
    rounds = 3 if "--quick" in sys.argv else 15
    server = peer()
    command = ["cargo", "bench", "--quiet", "-p", "scf-ai", "--bench", "generate", "--", "--serve"]
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    times = [[], [], [], []]
    for round in range(rounds + 1):
        first = took(server, 1)
        each = (took(server, 1 + MORE) - first) / MORE
        ours.stdin.write("\n")
        ours.stdin.flush()
        answer = [int(word) / 1e6 for word in ours.stdout.readline().split()]
        if round >= 1:
            for times_of, value in zip(times, [first, each, *answer], strict=True):
                times_of.append(value)
    ours.stdin.close()
    ours.wait()
    first, each, our_first, our_each = (statistics.median(arm) for arm in times)
    print(f"first token: llama.cpp {first:.1f} ms, scf {our_first:.1f} ms; each behind it: llama.cpp {each:.2f} ms, "
          f"scf {our_each:.2f} ms", file=sys.stderr)
    for bar, value in (("ai.smollm2.first_token_vs_llamacpp", our_first / first),
                       ("ai.smollm2.token_vs_llamacpp", our_each / each)):
        print(f'{{"bar":"{bar}","value":{value:.3f},"unit":"ratio","n":{rounds}}}', flush=True)


if __name__ == "__main__":
    main()

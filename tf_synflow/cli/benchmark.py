"""Measure .tflite files against each other, and report what is in one of them.

    tf-synflow-benchmark dense.tflite sparse.tflite
    tf-synflow-benchmark dense.tflite sparse.tflite --html=report.html --target=wasm

Latency, load time and peak memory in ai-edge-litert, all files in turn in one run; ratios are to
the first file. With --html or --json also a deployment report on the last file, the first being its
baseline: what is in it, and which of its ops the target runs sparse.
"""

from absl import flags

from tf_synflow.cli import common, model_files
from tf_synflow.errors import OutputError
from tf_synflow.targets import TARGETS

_THREADS = flags.DEFINE_list(
    "threads", None, "Thread counts, '1,4'; by default 1 and the number of cores."
)
_SECONDS = flags.DEFINE_float(
    "seconds", 2.0, "Timed running for each file, thread count and runtime."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 10, "Rounds; in each, every file is loaded and run in turn."
)
_RUNTIMES = flags.DEFINE_list(
    "runtimes",
    ["interpreter"],
    "Of ai-edge-litert: 'interpreter', 'compiled' (CompiledModel), or both.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random inputs.")
_TARGET = flags.DEFINE_enum(
    "target",
    "cpu-x86",
    TARGETS,
    "Where the reported file shall run.",
)
_HTML = flags.DEFINE_string("html", None, "Where the deployment report goes as a page.")
_JSON = flags.DEFINE_string("json", None, "Where the deployment report goes as JSON.")
_VERBOSE = flags.DEFINE_bool("verbose", True, "Show progress.")


def main(paths: list[str]) -> None:
    """Flags and files → a table, and the deployment report."""
    if not paths:
        raise OutputError(
            "no file was given; expected model.tflite [other.tflite ...]. See --help."
        )
    outputs = [path for path in (_HTML.value, _JSON.value) if path is not None]
    for path, suffix in ((_HTML.value, ".html"), (_JSON.value, ".json")):
        if path is not None:
            model_files.check_free(path, (suffix,))
    import tf_synflow

    measured = tf_synflow.benchmark(
        paths,
        threads=None if _THREADS.value is None else [_count(text) for text in _THREADS.value],
        seconds=_SECONDS.value,
        rounds=_ROUNDS.value,
        runtimes=_RUNTIMES.value,
        seed=_SEED.value,
        verbose="auto" if _VERBOSE.value else False,
    )
    print(measured)
    if outputs:
        baseline = paths[0] if len(paths) > 1 else None
        report = tf_synflow.deployment_report(
            paths[-1], target=_TARGET.value, baseline=baseline, measure=measured
        )
        for path in outputs:
            report.save(path)
        print(f"\nDeployment report: {', '.join(outputs)}")


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise common.usage_error("threads", text, "whole numbers: --threads=1,4") from None


def run() -> None:
    """Entry point of the console script."""
    common.run(main, __name__, positional=True)


if __name__ == "__main__":
    run()

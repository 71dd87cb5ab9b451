"""Python processes that a test starts: alone, or as workers that find each other."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 400  # for a machine that others use too


@contextlib.contextmanager
def started(command, folder, tf_configs=("",)):
    """A process for each TF_CONFIG, with stderr in a file; those still running are ended."""
    processes = []
    try:
        for index, tf_config in enumerate(tf_configs):
            environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
            if tf_config:
                environment["TF_CONFIG"] = tf_config
            with open(folder / f"stderr{index}", "w") as stderr:
                arguments = [argument.replace("INDEX", str(index)) for argument in command]
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *arguments],
                        env=environment,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def finished(processes, folder):
    """Waits for all of them; all have to succeed."""
    deadline = time.monotonic() + TIMEOUT
    for index, process in enumerate(processes):
        code = process.wait(max(1, deadline - time.monotonic()))
        assert code == 0, (folder / f"stderr{index}").read_text()[-3000:]


def reported(code, *arguments):
    """What Python code, run in a fresh process, prints as JSON behind the word REPORT."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("REPORT")[1])


def two_workers():
    """TF_CONFIG of two workers on free ports of this machine."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("localhost", 0))
        addresses = [f"localhost:{free.getsockname()[1]}" for free in (first, second)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]


def scenario(worker, name, folder, *arguments, tf_configs=("",)):
    """What each process of a scenario of a worker's file found."""
    command = [str(ROOT / "tests" / worker), name, str(folder / "foundINDEX")]
    with started([*command, *map(str, arguments)], folder, tf_configs) as processes:
        finished(processes, folder)
    return [json.loads((folder / f"found{i}").read_text()) for i in range(len(tf_configs))]


def report(scenarios):
    """The end of a worker's file: runs the scenario of the command line, writes what it found."""
    name, output, *arguments = sys.argv[1:]
    found = scenarios[name](*arguments)
    with open(output, "w") as file:
        json.dump(found, file)
    if os.environ.get("TF_CONFIG"):
        time.sleep(2)  # another worker may still be receiving from this one
    # Servers and their threads do not end by themselves.
    os._exit(0)

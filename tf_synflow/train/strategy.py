"""Devices and workers that share a run, by tf.distribute's strategies."""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tf_synflow.errors import (
    ClusterError,
    QuantityError,
    TfSynflowError,
    UnknownNameError,
    first_line,
)
from tf_synflow.train.config import STRATEGIES

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Workers:
    """The workers of a run, as one of them sees them.

    Attributes:
      strategy: `tf.distribute`'s; its default one without distribution.
      count: How many processes take part.
      is_chief: Whether this one writes the folder of the run.
    """

    strategy: Any
    count: int = 1
    is_chief: bool = True

    def check_batch_size(self, batch_size: int) -> None:
        """Checks that a batch can be shared out evenly, so that the mean gradient is exact.

        Raises:
          QuantityError: It cannot.
        """
        replicas = self.strategy.num_replicas_in_sync
        if batch_size % replicas:
            raise QuantityError(
                f"batch_size received: {batch_size!r}, with {replicas} replicas that share each "
                f"batch; expected a multiple of {replicas}. Correct --batch_size."
            )

    def shared(self, batches: Any) -> Any:
        """Batches of which every worker reads its share, whatever files they may come from."""
        import tensorflow as tf

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return batches.with_options(options)

    def on_chief(self, check: Callable[[], None]) -> None:
        """Runs a check on the chief alone; where it raises there, every worker raises.

        Raises:
          ClusterError: The check has failed, and this is not the chief.
        """
        failure = None
        if self.is_chief:
            try:
                check()
            except TfSynflowError as error:
                failure = error
        if any(self.gather(failure is not None)):
            raise failure or ClusterError(
                "the chief worker could not start the run; its own message says why. Mend that, "
                "and start all workers again."
            )

    def check_same_epoch(self, epoch: int, checkpoints: os.PathLike) -> None:
        """Checks that all workers go on after the same epoch.

        Raises:
          ClusterError: They do not; on every worker.
        """
        epochs = self.gather(epoch)
        if len(set(epochs)) > 1:
            raise ClusterError(
                f"the workers find, in {str(checkpoints)!r}, checkpoints of the epochs "
                f"{', '.join(map(str, epochs))} (0: none); expected the same one. Let --output_dir "
                "be a folder that all workers see."
            )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Says what to do when another worker is lost.

        Raises:
          ClusterError: One was.
        """
        import tensorflow as tf

        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
        ) as error:
            if self.count == 1:
                raise
            raise ClusterError(
                f"another worker was lost ({first_line(error).rstrip(':')}); expected "
                f"{self.count} workers to the end. Start all of them again with --resume: the run "
                "goes on after its last epoch."
            ) from error

    def gather(self, number: int) -> list[int]:
        """A whole number of every worker, on every worker; all of them have to call it."""
        import tensorflow as tf

        if self.count == 1:
            return [int(number)]

        @tf.function
        def gathered() -> Any:
            def of_replica() -> Any:
                context = tf.distribute.get_replica_context()
                return context.all_gather(tf.constant([int(number)], tf.int64), axis=0)

            return self.strategy.experimental_local_results(self.strategy.run(of_replica))[0]

        return gathered().numpy().tolist()


def start(name: str) -> Workers:
    """Takes up the devices of a run; before TensorFlow has computed anything.

    Args:
      name: `"none"`; `"mirrored"`: all GPUs of this machine, or all its (virtual) CPUs; or
        `"multiworker"`: the workers that the environment variable TF_CONFIG names. It returns
        when all of them are there.

    Raises:
      ClusterError: TF_CONFIG is missing or malformed, or the cluster cannot be started.
      UnknownNameError: An unknown strategy.

    Example:
      >>> workers = start("mirrored")
      >>> with workers.strategy.scope():
      ...     model = make_model()
    """
    if name not in STRATEGIES:
        raise UnknownNameError("strategy", name, STRATEGIES)
    if name == "multiworker":
        tf_config = os.environ.get("TF_CONFIG", "")
        task = _check_tf_config(tf_config)
        return Workers(_multiworker(tf_config), task.workers, task.is_chief)

    import tensorflow as tf

    return Workers(_mirrored() if name == "mirrored" else tf.distribute.get_strategy())


# One of each for a process: collectives of two strategies over the same devices get mixed up.


@functools.cache
def _mirrored() -> Any:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache
def _multiworker(tf_config: str) -> Any:
    import tensorflow as tf

    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise ClusterError(
            f"TF_CONFIG received: {tf_config}, with which the workers could not be started "
            f"({error}); expected free ports and hosts that reach each other, and nothing that "
            "TensorFlow has computed before in this process."
        ) from error


@dataclass(frozen=True)
class _Task:
    workers: int
    is_chief: bool


def _check_tf_config(text: str) -> _Task:
    """The place of this process among the workers; TensorFlow itself would wait or misread."""
    if not text:
        raise ClusterError(
            "TF_CONFIG received: nothing, with --strategy=multiworker; expected the environment "
            f"variable on every worker, as in TF_CONFIG='{_EXAMPLE}'. For one machine take "
            "--strategy=mirrored."
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(text, f"it is no JSON: {error}") from error
    cluster = config.get("cluster") if isinstance(config, Mapping) else None
    task = config.get("task") if isinstance(config, Mapping) else None
    if not isinstance(cluster, Mapping) or not isinstance(task, Mapping):
        raise _malformed(text, "it has no objects 'cluster' and 'task'")
    strange = sorted(set(cluster) - {"chief", "worker"})
    if strange:
        raise _malformed(text, f"its cluster has {', '.join(map(repr, strange))}")
    for kind, addresses in cluster.items():
        if not (isinstance(addresses, list) and addresses and all(map(_is_address, addresses))):
            raise _malformed(text, f"its {kind!r} is no list of 'host:port'")
    everybody = [address for addresses in cluster.values() for address in addresses]
    if not everybody or len(set(everybody)) < len(everybody):
        raise _malformed(text, "its cluster has no worker, or one address twice")
    kind, index = task.get("type"), task.get("index")
    if kind not in cluster:
        raise _malformed(text, f"its task is of type {kind!r}, which the cluster does not have")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(cluster[kind]):
        raise _malformed(text, f"the index of its task is {index!r}, of {len(cluster[kind])}")
    if len(cluster.get("chief", [])) > 1:
        raise _malformed(text, "its cluster has more than one chief")
    first = "chief" if "chief" in cluster else "worker"
    return _Task(len(everybody), kind == first and index == 0)


def _is_address(address: object) -> bool:
    return isinstance(address, str) and address.rpartition(":")[2].isdigit() and address[0] != ":"


def _malformed(text: str, problem: str) -> ClusterError:
    return ClusterError(
        f"TF_CONFIG received: {text}; {problem}. Expected workers (and one chief, if any) and "
        f"which of them this process is, as in {_EXAMPLE}"
    )

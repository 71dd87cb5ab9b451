"""The run: data → model → masks → training → plain model → export → report."""

import contextlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tf_synflow
from tf_synflow import compat
from tf_synflow.flow.weights import wrappers
from tf_synflow.train import data as data_sets
from tf_synflow.train import models, optimizers, strategy
from tf_synflow.train.config import TrainConfig
from tf_synflow.train.pruning_schedule import make_schedule
from tf_synflow.train.report import Report
from tf_synflow.train.run_folder import RunFolder
from tf_synflow.train.strategy import Workers

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Trained:
    """A trained network: the plain float32 model, test accuracy, epochs, weights not masked."""

    model: object
    accuracy: float
    epochs: list[dict]
    weights: int


def run(
    config: TrainConfig, output_dir: str, *, resume: bool = False, verbose: bool = True
) -> Report | None:
    """Prunes at initialization, trains, and leaves everything in a folder.

    With `config.strategy` "multiworker" every worker calls it, with the same arguments.

    Args:
      config: The run.
      output_dir: A new or empty folder; with `resume`, the folder of this same run. All workers
        have to see it; the chief writes it.
      resume: Go on after the last checkpoint, with the masks on file.
      verbose: Show progress.

    Returns:
      The report, which is also in the folder; None on a worker that is not the chief.

    Raises:
      OutputError: The folder holds something else or cannot be written.
      ClusterError: The workers cannot start together, or one was lost.
      DataError, QuantityError, UnknownNameError, LayerCollapseError, ...: See `tf_synflow.errors`.

    Example:
      >>> report = run(TrainConfig(data="digits", model="mlp", epochs=2), "/tmp/digits")
      >>> print(report)
    """
    optimizers.check(config)
    workers = strategy.start(config.strategy)
    workers.on_chief(lambda: RunFolder(output_dir).check(config, resume=resume))
    workers.check_batch_size(config.batch_size)
    with _folder_of(workers, output_dir) as folder, workers.watched():
        return _run(config, folder, workers, verbose and workers.is_chief)


@contextlib.contextmanager
def _folder_of(workers: Workers, output_dir: str) -> Iterator[RunFolder]:
    """The folder that a worker writes: that of the run, or one that goes when it is done."""
    if workers.is_chief:
        yield RunFolder(output_dir)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield RunFolder(scratch, RunFolder(output_dir))


def _run(config: TrainConfig, folder: RunFolder, workers: Workers, verbose: bool) -> Report | None:
    data = data_sets.load(
        config.data,
        data_dir=config.data_dir,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=config.augment,
        image_size=config.image_size,
        verbose=verbose,
    )
    masks = _masks(config, data, folder, verbose) if config.compression != 1 else None
    with workers.strategy.scope():
        model = _build(config, data, config.mixed_precision)
    summary = None
    if masks is not None:
        model = tf_synflow.apply_masks(model, masks, allow_collapse=config.allow_collapse)
        summary = tf_synflow.summary(model)
        if config.shrink:
            model = tf_synflow.shrink(model, verbose=verbose and "auto")
    # Claimed only now: a run that cannot start leaves no folder behind.
    folder.claim(config, masks)
    dense = None
    if config.compare_dense and masks is not None:
        with workers.strategy.scope():
            twin = _build(config, data, config.mixed_precision)
        dense = _train(config, data, twin, None, folder.dense, workers, verbose)
    trained = _train(config, data, model, masks, folder, workers, verbose)
    if not workers.is_chief:
        return None
    exported = exported_dense = None
    if config.export:
        samples, _ = next(iter(data.test_batches()))
        exported = tf_synflow.export_tflite(trained.model, folder.tflite, samples=samples.numpy())
        if dense is not None:
            exported_dense = tf_synflow.export_tflite(
                dense.model, folder.dense.tflite, samples=samples.numpy()
            )
    report = Report.of(config, data, folder, summary, trained, dense, exported, exported_dense)
    folder.write("report.json", json.dumps(report.to_dict(), indent=2) + "\n")
    folder.write("report.txt", str(report) + "\n")
    return report


def _masks(config: TrainConfig, data: data_sets.Data, folder: RunFolder, verbose: bool):
    """The masks on file; computed if there are none."""
    if folder.source.masks.exists():
        return tf_synflow.Masks.load(folder.source.masks)
    return tf_synflow.compute_masks(
        _build(config, data, "float32"),
        config.compression,
        scorer=config.scorer,
        schedule=make_schedule(config.compression, config.scorer, config.rounds, config.schedule),
        scope=config.scope,
        structure=config.structure,
        target=config.target,
        seed=config.seed,
        verbose=verbose,
    )


def _build(config: TrainConfig, data: data_sets.Data, dtype: str):
    return models.build(
        config.model,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        width=config.width,
        keras=compat.tf_keras(),
        seed=config.seed,
        dtype=dtype,
    )


def _train(
    config: TrainConfig,
    data: data_sets.Data,
    model,
    masks,
    folder: RunFolder,
    workers: Workers,
    verbose: bool,
) -> Trained:
    """Trains one network, from its last checkpoint if there is one."""
    import tensorflow as tf

    keras = compat.tf_keras()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with workers.strategy.scope():
        model.compile(
            optimizers.make_optimizer(config, data.steps_per_epoch),
            loss,
            metrics=["accuracy"],
            steps_per_execution=config.steps_per_execution,
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model),
        str(folder.checkpoints),
        max_to_keep=KEPT_CHECKPOINTS,
        checkpoint_name="epoch",
    )
    latest = tf.train.latest_checkpoint(str(folder.source.checkpoints))
    done = int(latest.rsplit("-", 1)[1]) if latest else 0
    workers.check_same_epoch(done, folder.source.checkpoints)
    if latest:
        manager.checkpoint.restore(latest).assert_existing_objects_matched()
    folder.cut_metrics(done)
    if verbose:
        print(f"\n{folder.path}: {done} of {config.epochs} epochs done", flush=True)
    if done < config.epochs:
        model.fit(
            workers.shared(data.train_batches(first_epoch=done)),
            steps_per_epoch=data.steps_per_epoch,
            initial_epoch=done,
            epochs=config.epochs,
            validation_data=workers.shared(data.test_batches()),
            callbacks=[
                _recorder(folder, manager),
                keras.callbacks.TensorBoard(str(folder.tensorboard), write_graph=False),
            ],
            # A bar that redraws itself is for terminals; a log gets a line an epoch.
            verbose=(1 if sys.stdout.isatty() else 2) if verbose else 0,
        )
    # What ships is float32, whatever precision it was trained in.
    final = _build(config, data, "float32")
    if masks is not None and config.shrink:
        final = tf_synflow.apply_masks(final, masks, allow_collapse=True)
        final = tf_synflow.strip_pruning(tf_synflow.shrink(final, verbose=False))
    final.set_weights(tf_synflow.strip_pruning(model).get_weights())
    final.compile(loss=loss, metrics=["accuracy"])
    _, accuracy = final.evaluate(data.test_batches(), verbose=0)
    final.save(folder.model)
    return Trained(final, accuracy, folder.read_metrics(), _weights_left(model))


def _weights_left(model) -> int:
    """All of a network's weights but those that are masked."""
    if not wrappers(model):
        return model.count_params()
    masks = tf_synflow.masks_of(model)
    return tf_synflow.strip_pruning(model).count_params() - (masks.size - masks.kept)


def _recorder(folder: RunFolder, manager):
    """A callback that files metrics and state after each epoch."""
    keras = compat.tf_keras()

    class Recorder(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.monotonic()

        def on_epoch_end(self, epoch, logs=None):
            numbers = {
                name.replace("val_", "test_"): value if math.isfinite(value) else None
                for name, value in ((name, float(value)) for name, value in logs.items())
            }
            numbers["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
            seconds = round(time.monotonic() - self.started, 3)
            # Metrics first: a kill between the two repeats the epoch, and its line is cut then.
            folder.append_metrics({"epoch": epoch + 1, **numbers, "seconds": seconds})
            manager.save(checkpoint_number=epoch + 1)

    return Recorder()

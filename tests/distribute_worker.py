"""One process of tests/distribute_test.py: runs a scenario and writes what it found as JSON.

python distribute_worker.py SCENARIO OUTPUT [ARGUMENT ...]
"""

import json
import os
import signal
import socket
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import processes
import small_models
import tensorflow as tf
import tf_keras

import tf_synflow
from tf_synflow.errors import OutputError, TfSynflowError
from tf_synflow.train import loop, strategy
from tf_synflow.train.config import TrainConfig

KERASES = {"tf_keras": tf_keras, "keras3": keras}
COMPRESSION = 3
# Few rounds: every process prunes several networks, and it is not its rounds that are tested.
SCHEDULE = tf_synflow.SynFlowPruningSchedule(COMPRESSION, rounds=5)
BATCH_SIZE = 8
EPOCHS = 3


def batches(model, count=32):
    """Global batches; the last one is partial unless `count` is a multiple of their size."""
    data = tf.data.Dataset.from_tensor_slices(small_models.images(model, count))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return data.batch(BATCH_SIZE).with_options(options)


def build(k, distributed, make=small_models.mlp):
    with distributed.scope():
        return make(k)


def prune(model):
    return tf_synflow.prune_at_init(model, schedule=SCHEDULE, verbose=False)


def compiled(k, distributed, pruned):
    """SGD with momentum and decay, which would move what draws a gradient."""
    with distributed.scope():
        optimizer = k.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3)
        pruned.compile(optimizer, k.losses.SparseCategoricalCrossentropy(from_logits=True))
    return pruned


def state_of(pruned, masks, losses):
    """What has to be the same on every worker, and the zeros."""
    values = [small_models.all_weights(pruned)[name].variable for name in masks]
    return {
        "losses": [float(loss) for loss in losses],
        "masks": {name: np.packbits(mask).tobytes().hex() for name, mask in masks.items()},
        "weights": [value.numpy().tobytes().hex() for value in values],
        "kept": int(masks.kept),
        "not_zero": small_models.masked_and_not_zero(pruned, masks),
        "variables": sorted({type(getattr(v, "_value", v)).__name__ for v in values}),
    }


def fit(k, distributed, make=small_models.mlp, count=25):
    """Prunes out of the scope, trains with `fit`, evaluates `count` images if there are any."""
    model = build(k, distributed, make)
    before = small_models.state(model)
    pruned = compiled(k, distributed, prune(model))
    masks = tf_synflow.masks_of(pruned)
    history = pruned.fit(batches(model), epochs=EPOCHS, verbose=0).history
    found = state_of(pruned, masks, history["loss"])
    if count:
        found["evaluated"] = float(pruned.evaluate(batches(model, count), verbose=0))
    stripped = tf_synflow.strip_pruning(pruned)
    found["not_zero_when_stripped"] = small_models.masked_and_not_zero(stripped, masks)
    found["model_unchanged"] = small_models.state(model) == before
    return found


def own_loop(k, distributed):
    """The same with a training loop of its own, as Keras 3 needs it on several workers."""
    model = build(k, distributed)
    pruned = prune(model)
    with distributed.scope():
        optimizer = k.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3)
        optimizer.build(pruned.trainable_variables)
    losses_of = k.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def step_of_replica(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses_of(labels, pruned(images, training=True))) / BATCH_SIZE
        gradients = tape.gradient(loss, pruned.trainable_weights)
        optimizer.apply_gradients(zip(gradients, pruned.trainable_weights, strict=True))
        return loss

    @tf.function
    def step(batch):
        return distributed.reduce("SUM", distributed.run(step_of_replica, batch), axis=None)

    data = distributed.experimental_distribute_dataset(batches(model))
    losses = [np.mean([float(step(batch)) for batch in data]) for _ in range(EPOCHS)]
    return state_of(pruned, tf_synflow.masks_of(pruned), losses)


def error_of(function):
    """The typed error that a call raises, in words."""
    try:
        function()
    except TfSynflowError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def mirrored():
    """Two virtual CPUs beside one, in both Kerases, and what is refused."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    both = strategy.start("mirrored").strategy
    found = {"replicas": both.num_replicas_in_sync, "runs": runs()}
    for name, k in KERASES.items():
        found[name] = {**trained(k, both), **refused(k, both)}
    return found


def trained(k, both):
    alone, one = tf.distribute.get_strategy(), tf.distribute.OneDeviceStrategy("CPU:1")
    with both.scope():
        model = small_models.mlp(k)
        masks = tf_synflow.compute_masks(model, schedule=SCHEDULE, verbose=False)
        pruned = prune(model)
    return {
        "alone": fit(k, alone),
        "mirrored": fit(k, both),
        "one_device": fit(k, one),
        "zoo": fit(k, both, small_models.zoo, count=0),
        "own_loop": own_loop(k, alone),
        "inside_the_scope": state_of(pruned, masks, []),
    }


def refused(k, both):
    outside = small_models.mlp(k)
    with both.scope():
        inside = small_models.mlp(k)
        built_outside = error_of(lambda: tf_synflow.prune_at_init(outside))
        head = k.layers.Dense(3)
        head.build((None, 4))
    with tf.distribute.OneDeviceStrategy("CPU:1").scope():
        built_in_another = error_of(lambda: tf_synflow.prune_at_init(inside))
    return {
        "built_outside": built_outside,
        "built_in_another": built_in_another,
        "built_in_parts": error_of(
            lambda: tf_synflow.prune_at_init(k.Model(outside.input, head(outside.output)))
        ),
    }


def runs():
    """The training script's run on one device, on two, and with a batch they cannot share."""
    found = {}
    for name in ("none", "mirrored"):
        with tempfile.TemporaryDirectory() as folder:
            config = TrainConfig(model="mlp", rounds=5, epochs=1, batch_size=64, strategy=name)
            loop.run(config, folder, verbose=False)
            with open(f"{folder}/metrics.jsonl") as file:
                found[name] = json.loads(file.read())
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(model="mlp", batch_size=63, strategy="mirrored")
        found["odd"] = error_of(lambda: loop.run(config, folder, verbose=False))
        found["odd_left"] = os.listdir(folder)
    return found


def multiworker(backup_folder):
    """One of several workers: the same as on one, a backup, and differences that all notice."""
    workers = strategy.start("multiworker")
    distributed = workers.strategy
    index = distributed.cluster_resolver.task_id
    found = {"workers": workers.count, "is_chief": workers.is_chief}
    found["tf_keras"] = fit(tf_keras, distributed)
    found["keras3"] = own_loop(keras, distributed)
    found["zoo"] = fit(tf_keras, distributed, small_models.zoo, count=0)
    found["restored"] = backed_up(distributed, backup_folder)
    for name, k in KERASES.items():
        model = build(k, distributed)
        random = tf_synflow.scores.Random(seed=index)
        found[f"{name}_masks"] = error_of(
            lambda model=model, random=random: tf_synflow.prune_at_init(
                model, COMPRESSION, scorer=random, verbose=False
            )
        )
        kernel = model.layers[1].kernel
        kernel.assign(kernel.numpy() * (1 + index))
        found[f"{name}_weights"] = error_of(lambda model=model: tf_synflow.prune_at_init(model))
        # So that one of them alone would stop before its masks are compared.
        kernel.assign(kernel.numpy() * (np.nan if index else 1))
        found[f"{name}_nan"] = error_of(lambda model=model: tf_synflow.prune_at_init(model))

    def refuse():
        raise OutputError("the folder is taken")

    found["on_chief"] = error_of(lambda: workers.on_chief(refuse))
    found["epochs"] = error_of(lambda: workers.check_same_epoch(3 * index, "/here"))
    return found


def backup(folder, dies_in_epoch):
    """One of several workers with a backup, of which worker 1 kills itself as an epoch begins."""
    return backed_up(strategy.start("multiworker").strategy, folder, int(dies_in_epoch))


def backed_up(distributed, folder, dies_in_epoch=None):
    """Training with Keras' own BackupAndRestore."""
    model = build(tf_keras, distributed)
    pruned = prune(model)
    masks = tf_synflow.masks_of(pruned)
    epochs = []

    def begin(epoch, logs):
        epochs.append(epoch)
        if epoch == dies_in_epoch and distributed.cluster_resolver.task_id == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [
        tf_keras.callbacks.BackupAndRestore(folder),
        tf_keras.callbacks.LambdaCallback(on_epoch_begin=begin),
    ]
    history = compiled(tf_keras, distributed, pruned).fit(
        batches(model), epochs=EPOCHS, verbose=0, callbacks=callbacks
    )
    return {"epochs": epochs, **state_of(pruned, masks, history.history["loss"])}


def parameter_server():
    """Two workers and a parameter server, threads of this process."""

    def address():
        with socket.socket() as free:
            free.bind(("localhost", 0))
            return f"localhost:{free.getsockname()[1]}"

    cluster = tf.train.ClusterSpec({"worker": [address(), address()], "ps": [address()]})
    # With fewer threads than servers they wait for each other.
    threads = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    servers = [
        tf.distribute.Server(cluster, kind, index, config=threads, protocol="grpc")
        for kind, index in (("worker", 0), ("worker", 1), ("ps", 0))
    ]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    distributed = tf.distribute.ParameterServerStrategy(resolver)
    model = build(tf_keras, distributed)
    pruned = prune(model)
    masks = tf_synflow.masks_of(pruned)
    compiled(tf_keras, distributed, pruned)
    # Steps are asynchronous, so that losses depend on who comes first.
    history = pruned.fit(batches(model).repeat(), epochs=2, steps_per_epoch=4, verbose=0).history
    return {"servers": len(servers), **state_of(pruned, masks, history["loss"])}


if __name__ == "__main__":
    processes.report(globals())

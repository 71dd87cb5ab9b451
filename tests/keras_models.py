"""Small Keras 3 models of every kind: graphs, subclassed, with training steps of their own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from small_models import randomise

from tf_synflow import Masks
from tf_synflow.flow import weights

LOSS = "sparse_categorical_crossentropy"

register = keras.saving.register_keras_serializable("keras_models")


def some_masks(model, density=0.5, seed=0):
    """Random masks for all prunable weights."""
    random = np.random.RandomState(seed)
    found = weights.all_weights(model)
    names = weights.select_prunable(found)
    return Masks({name: random.random_sample(found[name].shape) < density for name in names})


def inputs_of(model, count=8, seed=1):
    """Random inputs for one of the `MODELS`."""
    random = np.random.RandomState(seed)
    data = random.random_sample((count, 16)).astype("float32")
    return [data, data[::-1] + 1] if model.name == "several" else data


def outputs(model):
    """Of one of the `MODELS`, for `inputs_of`."""
    return model(inputs_of(model), training=False).numpy()


def train(model, eagerly=False, **options):
    """Two steps, which take longer to trace than to run; returns the losses."""
    x = inputs_of(model)
    y = np.arange(len(tf.nest.flatten(x)[0])) % 3
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, LOSS, jit_compile=False, run_eagerly=eagerly)
    return model.fit(x, y, batch_size=4, verbose=0, shuffle=False, **options).history["loss"]


def moved(model, pruned, masks):
    """Whether training has moved every weight tensor where its mask keeps."""
    before, after = weights.all_weights(model), weights.all_weights(pruned)
    return all(
        not np.array_equal(before[name].value()[mask], after[name].value()[mask])
        for name, mask in masks.items()
    )


def sequential():
    """A plain stack."""
    stack = [keras.Input((16,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax", name="out")]
    return keras.Sequential(stack, name="sequential")


def shared(across=False):
    """A layer and a nested model that are used twice; or the layer in the nested model too."""
    inputs = keras.Input((16,))
    twice = layers.Dense(8, "relu", name="twice")
    nested = keras.Input((8,))
    deep = layers.Dense(8, name="deep")(twice(nested) if across else nested)
    inner = keras.Model(nested, deep, name="inner")
    x = layers.Dense(8, name="first")(inputs)
    x = layers.Add()([inner(twice(twice(x))), inner(x)])
    return keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x), name="shared")


def several():
    """Two inputs, and ops in the graph."""
    a, b = keras.Input((16,), name="a"), keras.Input((16,), name="b")
    x = ops.concatenate([layers.Dense(8, name="on_a")(a), ops.relu(b) * 0.5], axis=-1)
    return keras.Model([a, b], layers.Dense(3, "softmax", name="head")(x), name="several")


@register
class Custom(layers.Layer):
    """Weights in a list, layers in a list, none of them named, and built at the first call."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.inner = [layers.Dense(width, "relu"), layers.Dense(width)]
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        make = {"shape": (self.width, self.width), "initializer": "glorot_uniform"}
        self.matrices = [self.add_weight(**make, name="kernel") for _ in range(2)]

    def call(self, x, training=None):
        for layer in self.inner:
            x = layer(x)
        for matrix in self.matrices:
            x = ops.matmul(x, matrix)
        return self.norm(x, training=training)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def custom():
    """A layer of the user's own in a graph."""
    inputs = keras.Input((16,))
    x = Custom(name="custom")(inputs)
    return keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x), name="custom_model")


@register
class Subclassed(keras.Model):
    """Weights of its own, lists of layers, a nested graph, a metric and a training step."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.blocks = [layers.Dense(width, "relu", kernel_regularizer="l2"), layers.Dense(width)]
        self.norm = layers.BatchNormalization()
        self.net = keras.Sequential(
            [keras.Input((width,)), layers.Dense(width, "relu"), layers.Dense(3)]
        )
        self.steps = keras.metrics.Sum(name="steps")

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.width, self.width), name="kernel")
        for block in self.blocks:
            block.build(shape)
            shape = (shape[0], self.width)
        self.norm.build(shape)

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        x = ops.matmul(self.norm(x, training=training), self.kernel)
        return ops.softmax(self.net(x))

    def train_step(self, data):
        self.steps.update_state(1.0)
        return super().train_step(data)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@register
class Lazy(keras.Model):
    """As in a tutorial: no arguments, no build, no get_config."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(8, activation="relu")
        self.second = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.second(self.first(x))


@register
class Parts(keras.Model):
    """Its training step calls its parts, and reads a weight, but never `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.Sequential([keras.Input((16,)), layers.Dense(8, "relu")])
        self.decoder = layers.Dense(3)

    def call(self, x):
        return ops.softmax(self.decoder(self.encoder(x)))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            outputs = ops.softmax(self.decoder(self.encoder(x)))
            loss = ops.mean(keras.losses.sparse_categorical_crossentropy(y, outputs))
            loss = loss + 0.01 * ops.mean(ops.exp(self.decoder.kernel))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@register
class Trainer(keras.Model):
    """A graph with a training step of its own: `Trainer(inputs, outputs)`."""

    def train_step(self, data):
        return {**super().train_step(data), "mine": 1.0}


def trainer():
    """A Functional subclass."""
    inputs = keras.Input((16,))
    x = layers.Dense(8, "relu", name="hidden")(inputs)
    return Trainer(inputs, layers.Dense(3, "softmax", name="head")(x), name="trainer")


@register
class Constructed(keras.Model):
    """A graph that the constructor makes from arguments of its own."""

    def __init__(self, width, **kwargs):
        inputs = keras.Input((16,))
        x = layers.Dense(width, "relu", name="hidden")(inputs)
        super().__init__(inputs, layers.Dense(3, "softmax", name="head")(x), **kwargs)
        self.width = width

    def train_step(self, data):
        return {**super().train_step(data), "mine": 1.0}

    def get_config(self):
        return {"width": self.width, "name": self.name}


def _called(make, *args):
    def called():
        model = make(*args)
        model(np.ones((2, 16), "float32"))
        return model

    return called


def nested_subclassed():
    """A subclassed model as a layer of a graph."""
    inputs = keras.Input((16,))
    x = layers.Dense(16, name="before")(inputs)
    return keras.Model(inputs, Subclassed(name="sub")(x), name="around")


_MODELS = {
    "sequential": sequential,
    "shared": shared,
    "several": several,
    "custom": custom,
    "subclassed": _called(Subclassed),
    "lazy": _called(Lazy),
    "parts": _called(Parts),
    "trainer": trainer,
    "constructed": lambda: Constructed(5),
    "nested_subclassed": nested_subclassed,
}
KINDS = list(_MODELS)
MODELS = {kind: lambda make=make: randomise(make()) for kind, make in _MODELS.items()}


@register
class Forgetful(layers.Layer):
    """Its configuration leaves out what its weights depend on."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(width, name="dense")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return super().get_config()


def forgetful():
    """A graph with such a layer."""
    inputs = keras.Input((16,))
    return keras.Model(inputs, layers.Dense(3)(Forgetful(5, name="forgetful")(inputs)))

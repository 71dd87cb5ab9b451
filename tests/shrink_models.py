"""Small networks with what shrinking has to know: joins, gates, sequences, shapes, nesting."""

import numpy as np
from small_models import randomise

from tf_synflow import Masks
from tf_synflow.flow import weights


def vgg(k):
    """Convolutions with bias and batch normalization, two dense layers after Flatten."""
    layers = k.layers
    stack = [k.Input((8, 8, 3))]
    for i, filters in enumerate((12, 16)):
        stack += [
            layers.Conv2D(filters, 3, padding="same", name=f"conv{i}"),
            layers.BatchNormalization(name=f"bn{i}"),
            layers.ReLU(),
            layers.MaxPooling2D(2),
        ]
    stack += [
        layers.Flatten(),
        layers.Dense(24, "relu", name="hidden"),
        layers.Dense(3, name="out"),
    ]
    return randomise(k.Sequential(stack))


def resnet(k):
    """Two residual blocks, one with a projection; the sums are layers."""
    layers = k.layers

    def conv_bn(x, filters, size, stride, name):
        conv = layers.Conv2D(filters, size, stride, padding="same", use_bias=False, name=name)
        return layers.BatchNormalization(name=f"{name}_bn")(conv(x))

    inputs = k.Input((8, 8, 3))
    x = layers.ReLU()(conv_bn(inputs, 10, 3, 1, "stem"))
    for block, (filters, stride) in enumerate([(10, 1), (14, 2)]):
        y = layers.ReLU()(conv_bn(x, filters, 3, stride, f"block{block}_conv1"))
        y = conv_bn(y, filters, 3, 1, f"block{block}_conv2")
        if stride > 1:
            x = conv_bn(x, filters, 1, stride, f"block{block}_shortcut")
        x = layers.ReLU()(layers.Add(name=f"block{block}_add")([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))


def mobilenet(k):
    """Two blocks of a depthwise and a 1×1 convolution, padded by a layer, ReLU6."""
    layers = k.layers

    def normed(x, name):
        return layers.ReLU(6.0)(layers.BatchNormalization(name=f"{name}_bn")(x))

    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = normed(x, "stem")
    for block, filters in enumerate((12, 16)):
        x = layers.ZeroPadding2D(1)(x)
        x = layers.DepthwiseConv2D(3, strides=block + 1, use_bias=False, name=f"dw{block}")(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"pw{block}")(normed(x, f"dw{block}"))
        x = normed(x, f"pw{block}")
    x = layers.Dropout(0.0)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Flatten()(layers.Conv2D(3, 1, name="head")(x))
    return randomise(k.Model(inputs, x))


def gated(k):
    """Depthwise with a multiplier, a squeeze-and-excite gate, PReLU."""
    layers = k.layers
    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="stem")(inputs)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise")(x)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, 12))(gate)
    gate = layers.Conv2D(4, 1, activation="swish", name="squeeze")(gate)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Conv2D(5, 1, activation="relu", name="project")(layers.Multiply()([x, gate]))
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, activation="relu", name="up")(x)
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x))))


def inception(k):
    """Branches side by side, one of them nested, one layer in two of them."""
    layers = k.layers
    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    inner = k.Sequential(
        [k.Input((8, 8, 8)), layers.Conv2D(6, 3, padding="same", name="deep"), layers.ReLU()],
        name="inner",
    )
    twice = layers.Conv2D(6, 1, activation="relu", name="twice")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    x = layers.Concatenate()([inner(x), twice(x), twice(pooled)])
    x = layers.Conv2D(5, 3, strides=2, activation="relu", name="mix")(x)
    x = layers.Concatenate(axis=1)([x, layers.ZeroPadding2D(((1, 0), (0, 0)))(x)])
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x))))


def sequence(k):
    """Tokens, an LSTM in both directions, a GRU, a SimpleRNN."""
    layers = k.layers
    inputs = k.Input((4,), dtype="int32")
    x = layers.Embedding(20, 8, name="embedding")(inputs)
    # Loops take most of the time of a test.
    options = {"unroll": True, "return_sequences": True}
    x = layers.Bidirectional(layers.LSTM(6, **options, name="lstm"), name="both")(x)
    x = layers.GRU(7, **options, name="gru")(x)
    x = layers.SimpleRNN(5, name="rnn")(x)
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))


def transformer(k):
    """Attention, layer normalization, a feed-forward block."""
    layers = k.layers
    inputs = k.Input((5, 8))
    attention = layers.MultiHeadAttention(4, 3, name="attention")
    x = layers.LayerNormalization(name="norm1")(layers.Add()([inputs, attention(inputs, inputs)]))
    y = layers.Dense(16, "gelu", name="wide")(x)
    x = layers.Add()([x, layers.Dense(8, name="narrow")(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="norm2")(x))
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))


def resnext(k):
    """Grouped convolutions in a row, of as many groups and of others, and in a residual block."""
    layers = k.layers
    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(12, 1, activation="relu", name="stem")(inputs)
    y = layers.Conv2D(12, 3, padding="same", groups=3, use_bias=False, name="three")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="three_bn")(y))
    y = layers.Conv2D(24, 3, padding="same", groups=3, activation="relu", name="wider")(y)
    x = layers.Add(name="add")([x, layers.Conv2D(12, 1, name="back")(y)])
    x = layers.Conv2D(16, 3, groups=4, activation="relu", name="four")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, activation="relu", name="mix")(x))
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))


def video(k):
    """Layers at each step of a sequence, contractions over one axis and over two."""
    layers = k.layers
    inputs = k.Input((4, 6, 6, 3))
    conv = layers.Conv2D(8, 3, activation="relu", name="conv")
    x = layers.TimeDistributed(conv, name="frames")(inputs)
    x = layers.TimeDistributed(layers.BatchNormalization(name="bn"), name="normed")(x)
    x = layers.TimeDistributed(layers.Conv2D(6, 3, use_bias=False, name="deep"), name="deeper")(x)
    x = layers.TimeDistributed(layers.Flatten())(layers.ReLU()(x))
    x = layers.TimeDistributed(layers.Dense(9, "relu", name="dense"), name="steps")(x)
    x = layers.EinsumDense("abc,cde->abde", (4, 2, 6), bias_axes="de", name="apart")(x)
    x = layers.EinsumDense("abde,def->abf", (4, 7), activation="relu", name="together")(x)
    x = layers.EinsumDense("...x,xy->...y", 5, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))


MODELS = {
    make.__name__: make
    for make in (
        *(vgg, resnet, mobilenet, gated, inception, sequence, transformer),
        *(resnext, video),
    )
}


def starved_masks(model, density=0.5, dead=0.4, seed=0):
    """Random masks that leave many rows and columns of kernels empty, and the first unit a path."""
    random = np.random.RandomState(seed)
    found = weights.all_weights(model)
    masks = {}
    for name in weights.select_prunable(found):
        shape = found[name].shape
        mask = random.random_sample(shape) < density
        starved = () if "depthwise" in name else (-2, -1)
        for axis in starved:
            alive = random.random_sample(shape[axis]) >= dead
            mask &= alive if axis == -1 else alive[:, None]
        mask[..., 0, 0] = True
        masks[name] = mask
    return Masks(masks)

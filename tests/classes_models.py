"""Networks whose positions fall into classes: chains of layers, graphs, and one of any size."""

from small_models import randomise

SERIES, IMAGE, VOLUME = (23, 3), (17, 13, 3), (7, 5, 6, 2)

# Chains of layers over all-ones inputs: sizes are prime, so that strides leave something over.
CHAINS = {
    "convolutions of a series": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
        ("Conv1D", {"filters": 6, "kernel_size": 4, "strides": 2}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv1D", {"filters": 6, "kernel_size": 2, "groups": 2, "padding": "same"}),
    ]),
    "causal strides": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 5, "strides": 3, "padding": "causal"}),
        ("Conv1D", {"filters": 4, "kernel_size": 2, "groups": 4, "padding": "causal"}),
    ]),
    "parts of convolutions of a series": (SERIES, [
        ("SeparableConv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("DepthwiseConv1D", {"kernel_size": 3, "strides": 2, "depth_multiplier": 2}),
        ("SeparableConv1D", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}),
    ]),
    "a series there and back": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}),
        ("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3, "padding": "same"}),
        ("Conv1D", {"filters": 4, "kernel_size": 5, "strides": 3, "padding": "same"}),
        ("Conv1DTranspose",
         {"filters": 2, "kernel_size": 4, "strides": 3, "padding": "same", "output_padding": 1}),
    ]),
    "poolings of a series": (SERIES, [
        ("ZeroPadding1D", {"padding": (2, 1)}),
        ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("AveragePooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}),
        ("UpSampling1D", {"size": 3}),
        ("Cropping1D", {"cropping": (0, 4)}),
        ("AveragePooling1D", {"pool_size": 4}),
    ]),
    "convolutions": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("BatchNormalization", {}),
        ("ReLU", {}),
        ("Conv2D", {"filters": 6, "kernel_size": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv2D", {"filters": 4, "kernel_size": 1, "strides": 2}),
        ("Conv2D", {"filters": 4, "kernel_size": (5, 1), "padding": "same"}),
    ]),
    "dilation and groups": (IMAGE, [
        ("Conv2D", {"filters": 6, "kernel_size": 3, "padding": "same", "dilation_rate": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 2, "activation": "relu"}),
        ("Conv2D", {"filters": 8, "kernel_size": 2, "groups": 4, "strides": 2, "padding": "same"}),
        ("Conv2D", {"filters": 3, "kernel_size": 2, "dilation_rate": 2}),
    ]),
    "there and back": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "strides": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 3, "padding": "same"}),
        ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same",
                             "output_padding": 1}),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": (2, 5), "padding": "same"}),
    ]),
    "a gap between transposes": (IMAGE, [
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 2, "strides": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 2}),
    ]),
    "parts of convolutions": (IMAGE, [
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "depth_multiplier": 2}),
        ("SeparableConv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("DepthwiseConv2D", {"kernel_size": 2, "strides": 2}),
        ("SeparableConv2D", {"filters": 3, "kernel_size": 2, "depth_multiplier": 2}),
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "dilation_rate": 2}),
    ]),
    "poolings that overlap": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("AveragePooling2D", {"pool_size": 3, "strides": 1, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": (2, 3), "strides": 1}),
        ("AveragePooling2D", {"pool_size": 2}),
    ]),
    "borders added, cut off and repeated": (IMAGE, [
        ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}),
        ("Conv2D", {"filters": 4, "kernel_size": 3}),
        ("Cropping2D", {"cropping": ((0, 1), (2, 0))}),
        ("UpSampling2D", {"size": (2, 3)}),
        ("Conv2D", {"filters": 3, "kernel_size": 4, "strides": 3, "padding": "same"}),
        ("ZeroPadding2D", {"padding": 0}),
    ]),
    "interpolation": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("UpSampling2D", {"size": 2, "interpolation": "bilinear"}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2}),
    ]),
    "an alpha a position": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": 2}),
        ("BatchNormalization", {}),
        ("PReLU", {}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "padding": "same"}),
        ("PReLU", {"shared_axes": [1, 2]}),
    ]),
    "axes in another order": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("Permute", {"dims": (2, 3, 1)}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2}),
        ("Reshape", {"target_shape": (-1, 2)}),
        ("Conv1D", {"filters": 2, "kernel_size": 3}),
    ]),
    "a normalization over rows": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("BatchNormalization", {"axis": 1}),
        ("Dense", {"units": 4, "activation": "relu"}),
        ("BatchNormalization", {"axis": 2}),
        ("Conv2D", {"filters": 3, "kernel_size": 3}),
    ]),
    "one pixel high": ((1, 23, 3), [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 2, "padding": "same"}),
        ("UpSampling2D", {"size": (3, 1)}),
        ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "strides": 2, "padding": "same"}),
    ]),
    "one pixel wide": ((23, 1, 3), [
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}),
        ("ZeroPadding2D", {"padding": 2}),
    ]),
    "one pixel": ((1, 1, 3), [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("UpSampling2D", {"size": 7}),
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
    ]),
    "volumes there and back": (VOLUME, [
        ("Conv3D", {"filters": 2, "kernel_size": 3, "padding": "same", "groups": 2}),
        ("ZeroPadding3D", {"padding": ((0, 1), (1, 0), (0, 0))}),
        ("Cropping3D", {"cropping": ((1, 1), (0, 0), (0, 2))}),
        ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": (1, 2, 1)}),
        ("UpSampling3D", {"size": (1, 1, 2)}),
        ("Conv3D", {"filters": 2, "kernel_size": 2, "strides": 2}),
    ]),
    "steps of images": ((3, 9, 7, 2), [
        ("TimeDistributed Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("TimeDistributed MaxPooling2D", {"pool_size": 2}),
        ("Conv3D", {"filters": 2, "kernel_size": 2}),
    ]),
}  # fmt: skip

# Gates, and normalizations by the data: the rules leave something out, and Keras is no judge.
NOT_LITERAL = {
    "a normalization over positions": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("LayerNormalization", {"axis": [1, 2]}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2}),
        ("LayerNormalization", {"axis": [1, 2, 3]}),
        ("GroupNormalization", {"groups": 2}),
        ("Conv2D", {"filters": 3, "kernel_size": 2, "activation": "gelu"}),
    ]),
    # Keras has no such pooling in float64.
    "volumes": (VOLUME, [
        ("Conv3D", {"filters": 3, "kernel_size": (3, 2, 3), "padding": "same"}),
        ("MaxPooling3D", {"pool_size": 2, "strides": 1}),
        ("Conv3D", {"filters": 2, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"}),
        ("AveragePooling3D", {"pool_size": (3, 1, 2), "strides": 1, "padding": "same"}),
    ]),
    # TensorFlow has no such convolution, and tf_keras no such pooling, on a CPU.
    "channels first": ((3, 17, 13), [
        (name, {**arguments, "data_format": "channels_first"}) for name, arguments in [
            ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
            ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
            ("ZeroPadding2D", {"padding": ((1, 0), (0, 2))}),
            ("DepthwiseConv2D", {"kernel_size": 2}),
            ("UpSampling2D", {"size": 2}),
            ("SeparableConv2D", {"filters": 3, "kernel_size": 3}),
            ("AveragePooling2D", {"pool_size": 2}),
            ("Cropping2D", {"cropping": ((0, 1), (1, 0))}),
            ("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2}),
        ]
    ] + [("BatchNormalization", {"axis": 1})]),
}  # fmt: skip


def chain(k, shape, parts):
    x = inputs = k.Input(shape)
    for name, arguments in parts:
        *around, name = name.split()
        layer = getattr(k.layers, name)(**arguments)
        for wrapper in around:
            layer = getattr(k.layers, wrapper)(layer)
        x = layer(x)
    return headed(k, inputs, x)


def headed(k, inputs, x):
    """A head that tells positions apart, and one that does not."""
    layers = k.layers
    flat = layers.Dense(2, name="flat")(layers.Flatten()(x))
    mean = getattr(layers, f"GlobalAveragePooling{len(x.shape) - 2}D")()(x)
    return k.Model(inputs, layers.Add()([flat, layers.Dense(2, name="mean")(mean)]))


def branches(k):
    """Branches with borders of different widths, joined side by side and added."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    parts = [
        layers.Conv2D(3, size, strides=2, padding="same", activation="relu")(inputs)
        for size in (1, 3, 7)
    ]
    parts.append(layers.MaxPooling2D(3, 2, padding="same")(inputs))
    x = layers.Concatenate()(parts)
    y = layers.Conv2D(12, 3, padding="same", dilation_rate=2)(x)
    x = layers.Maximum()([layers.Average()([x, y]), layers.AveragePooling2D(3, 1, "same")(x)])
    x = layers.Concatenate(axis=1)([x, layers.Cropping2D(((1, 2), (0, 0)))(x), y])
    return headed(k, inputs, layers.Conv2D(3, 3, strides=2)(x))


def global_poolings(k):
    """What is said of all positions, given back to each of them."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
    largest = layers.GlobalMaxPooling2D(keepdims=True)(layers.Conv2D(4, 3)(x))
    x = layers.Add()([layers.Conv2D(4, 1)(mean), x, largest])
    x = layers.Conv2D(3, 3, padding="same")(x)
    flat = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.Flatten()(mean)])
    return k.Model(inputs, layers.Dense(2)(flat))


def squeeze_and_excitation(k):
    layers = k.layers
    inputs = k.Input(IMAGE)
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    gate = layers.Dense(6, activation="sigmoid")(
        layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(x))
    )
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(gate)])
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    spatial = layers.Conv2D(1, 5, padding="same", activation="sigmoid")(x)
    return headed(k, inputs, layers.Multiply()([x, spatial, layers.Dropout(0.5)(x)]))


def several_inputs(k):
    layers = k.layers
    image, small, vector = k.Input((17, 13, 3)), k.Input((9, 7, 2)), k.Input((5,))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    y = layers.Conv2D(4, 3, padding="same")(small)
    z = layers.Reshape((1, 1, 4))(layers.Dense(4)(vector))
    x = layers.Add()([x, y, z])
    return headed(k, [image, small, vector], layers.Conv2D(3, 3, activation="relu")(x))


def shared(k):
    """One layer over maps of several sizes, and a model in the model."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    twice = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    inner = k.Sequential(
        [k.Input((None, None, 3), dtype="float64"), twice, layers.MaxPooling2D(2)], name="inner"
    )
    x, y = inner(inputs), inner(inner(inputs))
    both = [layers.GlobalAveragePooling2D()(twice(x)), layers.Flatten()(twice(y))]
    return k.Model(inputs, layers.Dense(2)(layers.Concatenate()(both)))


BUILDERS = {
    one.__name__.replace("_", " "): one
    for one in (branches, global_poolings, several_inputs, shared)
}
GATED = {"squeeze and excitation": squeeze_and_excitation}


def of_any_size(k):
    """Of every layer that takes classes; no size is known but by the input."""
    layers = k.layers
    inputs = k.Input((None, None, 3))
    x = layers.ZeroPadding2D(1)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.SeparableConv2D(6, 3, padding="same", dilation_rate=2)(y)
    gate = layers.Conv2D(6, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(y)
    )
    x = layers.Add()([layers.Multiply()([y, gate]), layers.Dropout(0.1)(x)])
    y = layers.Conv2D(6, 3, groups=2, padding="same")(layers.AveragePooling2D(2)(x))
    x = layers.Concatenate()([layers.UpSampling2D(2)(y), x])
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(layers.LayerNormalization()(x))
    x = layers.Conv2D(4, 3)(layers.Cropping2D(2)(x))
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    return randomise(k.Model(inputs, layers.Dense(3)(layers.Concatenate()(pooled))))

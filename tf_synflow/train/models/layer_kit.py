"""Layers with names, seeds, dtype and PyTorch-like settings, for either Keras."""

import zlib
from types import ModuleType
from typing import Any

import numpy as np

MIN_CHANNELS = 8


class LayerKit:
    """Makes the layers of one model; every method takes a tensor and returns a tensor.

    The seed of a layer follows from the model's seed and the layer's name, so that inserting a
    layer leaves the weights of all others as they were.
    """

    def __init__(self, keras: ModuleType, *, seed: int, dtype: str, width: float):
        self.keras = keras
        self._seed = seed
        self._dtype = dtype
        self._width = width

    def channels(self, base: int) -> int:
        """`base` times the width factor, at least 8."""
        return max(MIN_CHANNELS, round(base * self._width))

    def conv(
        self, x: Any, filters: int, name: str, *, size: int = 3, stride: int = 1, bias: bool = True
    ) -> Any:
        """Convolution that pads both sides by `size // 2`, as PyTorch does at any stride."""
        x = self._padded(x, size, stride, name)
        return self.keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="valid" if stride > 1 else "same",
            use_bias=bias,
            kernel_initializer=self.he_normal(name),
            name=name,
            dtype=self._dtype,
        )(x)

    def depthwise(self, x: Any, name: str, *, size: int = 3, stride: int = 1) -> Any:
        """A filter for each channel, without bias; pads like `conv`."""
        x = self._padded(x, size, stride, name)
        return self.keras.layers.DepthwiseConv2D(
            size,
            strides=stride,
            padding="valid" if stride > 1 else "same",
            use_bias=False,
            depthwise_initializer=self.he_normal(name, fan_in=size * size),
            name=name,
            dtype=self._dtype,
        )(x)

    def _padded(self, x: Any, size: int, stride: int, name: str) -> Any:
        """Zeros all around where the stride is over one: Keras' "same" pads one side only."""
        if stride == 1 or size == 1:
            return x
        return self.keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad", dtype=self._dtype)(x)

    def batch_norm(self, x: Any, name: str) -> Any:
        """Batch normalization with PyTorch's epsilon and momentum (its 0.1 is Keras' 0.9)."""
        return self.keras.layers.BatchNormalization(
            epsilon=1e-5, momentum=0.9, name=name, dtype=self._dtype
        )(x)

    def relu(self, x: Any, name: str) -> Any:
        return self.keras.layers.ReLU(name=name, dtype=self._dtype)(x)

    def relu6(self, x: Any, name: str) -> Any:
        return self.keras.layers.ReLU(6.0, name=name, dtype=self._dtype)(x)

    def max_pool(self, x: Any, name: str) -> Any:
        """2x2 maximum, stride 2."""
        return self.keras.layers.MaxPooling2D(2, name=name, dtype=self._dtype)(x)

    def global_mean(self, x: Any, name: str = "mean") -> Any:
        return self.keras.layers.GlobalAveragePooling2D(name=name, dtype=self._dtype)(x)

    def flatten(self, x: Any, name: str = "flatten") -> Any:
        return self.keras.layers.Flatten(name=name, dtype=self._dtype)(x)

    def add(self, x: Any, y: Any, name: str) -> Any:
        return self.keras.layers.Add(name=name, dtype=self._dtype)([x, y])

    def reshape(self, x: Any, shape: tuple[int, ...], name: str) -> Any:
        return self.keras.layers.Reshape(shape, name=name, dtype=self._dtype)(x)

    def layer_norm(self, x: Any, name: str) -> Any:
        return self.keras.layers.LayerNormalization(epsilon=1e-6, name=name, dtype=self._dtype)(x)

    def gelu(self, x: Any, name: str) -> Any:
        return self.keras.layers.Activation("gelu", name=name, dtype=self._dtype)(x)

    def token_mean(self, x: Any, name: str = "mean") -> Any:
        return self.keras.layers.GlobalAveragePooling1D(name=name, dtype=self._dtype)(x)

    def lstm(self, x: Any, units: int, name: str, *, sequences: bool = False) -> Any:
        """Keras' own initializers: Glorot uniform, orthogonal, forget bias one."""
        return self.keras.layers.LSTM(
            units,
            return_sequences=sequences,
            kernel_initializer=self.keras.initializers.GlorotUniform(seed=self._seed_of(name)),
            recurrent_initializer=self.keras.initializers.Orthogonal(
                seed=self._seed_of(f"{name}/recurrent")
            ),
            name=name,
            dtype=self._dtype,
        )(x)

    def attention(self, x: Any, heads: int, name: str) -> Any:
        """Self-attention with kernels of variance 1 / fan-in."""
        size = x.shape[-1]
        layer = self.keras.layers.MultiHeadAttention(
            heads, size // heads, name=name, dtype=self._dtype
        )
        y = layer(x, x)
        # One seeded initializer would give query, key and value the same kernel.
        drawn = [
            value if value.ndim < 3 else self._unit_variance(f"{name}/{i}", value.shape)
            for i, value in enumerate(layer.get_weights())
        ]
        layer.set_weights(drawn)
        return y

    def embedded_patches(self, image: Any, patch: int, size: int, name: str) -> Any:
        """Patches as tokens, projected; the bias, one for each token, is the position embedding."""
        height, width, channels = image.shape[1:]
        rows, columns = height // patch, width // patch
        layers = self.keras.layers
        x = self.reshape(image, (rows, patch, columns, patch, channels), f"{name}_cut")
        x = layers.Permute((1, 3, 2, 4, 5), name=f"{name}_sort", dtype=self._dtype)(x)
        x = self.reshape(x, (rows * columns, patch * patch * channels), f"{name}_tokens")
        return layers.EinsumDense(
            "btp,pd->btd",
            (rows * columns, size),
            bias_axes="td",
            kernel_initializer=self.he_normal(name),
            bias_initializer=self.keras.initializers.RandomNormal(
                stddev=0.02, seed=self._seed_of(f"{name}/positions")
            ),
            name=name,
            dtype=self._dtype,
        )(x)

    def dense(self, x: Any, units: int, name: str) -> Any:
        return self.keras.layers.Dense(
            units, kernel_initializer=self.he_normal(name), name=name, dtype=self._dtype
        )(x)

    def head(self, x: Any, num_classes: int) -> Any:
        """Logits in float32 under every policy."""
        return self.keras.layers.Dense(
            num_classes, kernel_initializer=self.he_normal("head"), name="head", dtype="float32"
        )(x)

    def he_normal(self, name: str, fan_in: int | None = None) -> Any:
        """Normal with variance 2 / fan-in (He et al. 2015), not truncated, as in PyTorch.

        For every kernel, the head's too: so say the mean absolute weights that the paper published
        (0.0470 for 3x3x64 → 64 and 0.0499 for 512 → 100 are √(2/π) · √(2/fan-in)).
        """
        if fan_in is not None:  # Keras takes a depthwise kernel's for that of a full one
            return self.keras.initializers.RandomNormal(
                stddev=(2.0 / fan_in) ** 0.5, seed=self._seed_of(name)
            )
        return self.keras.initializers.VarianceScaling(
            2.0, mode="fan_in", distribution="untruncated_normal", seed=self._seed_of(name)
        )

    def _unit_variance(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An attention kernel: (size, heads, head size), or its transpose for the output."""
        inward = shape[:1] if shape[0] == shape[1] * shape[2] else shape[:2]
        flat = (int(np.prod(inward)), int(np.prod(shape)) // int(np.prod(inward)))
        initializer = self.keras.initializers.LecunNormal(seed=self._seed_of(name))
        return np.reshape(np.array(initializer(flat)), shape)

    def _seed_of(self, name: str) -> int:
        return zlib.crc32(f"{self._seed}/{name}".encode()) & 0x7FFFFFFF

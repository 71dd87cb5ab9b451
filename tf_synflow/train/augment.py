"""Standard CIFAR augmentation, a whole batch at a time."""

from typing import Any

PADDING = 4


def crop_and_flip(images: Any, seed: Any) -> Any:
    """Pads by 4 black pixels, crops back at a random place, mirrors with probability one half.

    Args:
      images: Tensor of shape (batch, height, width, channels), any dtype.
      seed: Integer tensor of shape (2,); the same seed gives the same batch.

    Returns:
      Tensor like `images`.
    """
    import tensorflow as tf

    batch, height, width = tf.unstack(tf.shape(images)[:3])
    padded = tf.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top, left = tf.unstack(
        tf.random.stateless_uniform((2, batch), seed, 0, 2 * PADDING + 1, tf.int32)
    )
    flip = tf.random.stateless_uniform((batch,), seed + 1, 0, 2, tf.int32) == 1
    rows = top[:, None] + tf.range(height)
    columns = left[:, None] + tf.range(width)
    # Mirroring is reading the columns backwards: no further copy of the images.
    columns = tf.where(flip[:, None], columns[:, ::-1], columns)
    cropped = tf.gather(
        tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
    )
    return tf.ensure_shape(cropped, images.shape)

"""The linear network of |θ|: what flows from an all-ones input to the outputs of a Keras model."""

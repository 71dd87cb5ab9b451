"""Layers that the flow passes as it is: what does nothing at inference, and preprocessing."""

from typing import Any

from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
    "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Masking", "InputLayer",
    "Identity", "StochasticDepth", "tf.identity", "tf.stop_gradient", "tf.cast",
    "ops.StopGradient", "ops.Cast", "ops.SaturateCast", "ops.Copy", "ops.View",
)  # fmt: skip
@by_class
def nothing(layer: Any, theta: Theta, x: FlowTensor, *args: Any, **keywords: Any) -> FlowTensor:
    """The identity for what does nothing at inference."""
    return x


@flow_rule(
    "Rescaling", "Normalization", "UnitNormalization", "ops.Normalize", "RandomFlip", "RandomCrop",
    "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "RandomColorDegeneration", "RandomColorJitter", "RandomErasing",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear",
    "RandomElasticTransform", "AutoContrast", "Equalization",
    "Solarization", "AugMix", "RandAugment", "CutMix", "MixUp", "LayerScale",
)  # fmt: skip
@by_class
def preprocessing(layer: Any, theta: Theta, x: FlowTensor, **keywords: Any) -> FlowTensor:
    """The identity for preprocessing: an input of ones says how a network's own weights stand.

    ConvNeXt's LayerScale too: at its initial 1e-6 no flow would be left in the branches.
    """
    return x

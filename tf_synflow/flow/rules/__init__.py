"""Flow rules: one function per op, what it does to the flow of the network of |θ|.

On ReLU, max-pooling and batch-norm networks a rule is the layer itself, with |θ| for θ, in
inference mode (Tanaka et al. 2020, section 6 and their code). Elsewhere it is the nearest op that
is positively homogeneous of degree one, so that flow is conserved (Euler's theorem): activations
that bend become the identity, a final softmax among them, under which every score would be zero.

A rule has the signature `rule(layer, theta, *inputs, **keywords) -> FlowTensor`. `theta.kernel` is
|layer.kernel|, masked, as a tensor of the scoring dtype, and None where the layer has none. One
file a family of ops; a new file here is found by itself.
"""

import importlib
import pkgutil

from tf_synflow.flow.rules.registry import (
    Rule,
    apply,
    by_class,
    find,
    flow_keywords,
    flow_rule,
    rule_of,
)

__all__ = ["Rule", "apply", "by_class", "find", "flow_keywords", "flow_rule", "rule_of"]

for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")

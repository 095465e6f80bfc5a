"""Training steps that mix activations. Their inputs carry the plan from the augmentation to the network."""

import contextlib
from typing import Any, NamedTuple

from keras_reg._typing import Tensors


class MixedInside(NamedTuple):
    """Inputs of a network, and the plan by which it mixes activations."""

    inputs: Any
    plan: dict


class MixesInside:
    """A mixin for a model that mixes the activations of its network. Each of its methods accepts `MixedInside`."""

    mixing: Any = None  # a `MixAt`

    @contextlib.contextmanager
    def mixed_inside(self, x):
        """Yields the inputs alone. Within the context, the network mixes by their plan."""
        if not isinstance(x, MixedInside):
            yield x
            return
        before, self.mixing.plan = self.mixing.plan, x.plan
        try:
            yield x.inputs
        finally:
            self.mixing.plan = before

    def current_network(self):
        """Returns the network that a call uses. Keras would save the network as the value of a property."""
        return self.model if self.mixing is None or self.mixing.plan is None else self.mixing.network

    def __call__(self, inputs: Tensors, *args: Any, **kwargs: Any) -> Tensors:
        with self.mixed_inside(inputs) as inputs:
            return super().__call__(inputs, *args, **kwargs)  # type: ignore[misc]

    def call_network(self, inputs, **options):
        with self.mixed_inside(inputs) as inputs:  # in a stateless call, Keras does not use `__call__`
            return super().call_network(inputs, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with self.mixed_inside(x) as x:
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        with self.mixed_inside(x) as x:
            return super().compute_metrics(x, y, y_pred, sample_weight)

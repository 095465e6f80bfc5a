"""Further passes of the network in one training step, beside the pass whose gradient Keras computes."""

import contextlib
import threading

import keras

from keras_reg import _backend
from keras_reg.training._sharpness_aware import SharpenedOptimizer


class FurtherPasses:
    """Runs the network and the loss again on the batch of a step, without assigning anything.

    Args:
        model: The model.
        batch: (x, y, sample_weight) after the augmentation.
        state: (variable, value) for variables whose values before the first pass count, such as seeds.
        process: The state of the process' random generators before the first pass, or `None`.
    """

    def __init__(self, model, batch, state, process=None):
        self.model, self.batch, self.state, self.process = model, batch, state, process

    def gradients(self, weights, scale):
        """Returns the gradients of `scale` times the loss at other values of the trainable weights."""
        return _backend.gradients_at(lambda values: scale * self._loss(values), weights)

    def _loss(self, weights):
        x, y, sample_weight = self.batch
        known = [*zip(self.model.trainable_variables, weights, strict=True), *self.state]
        with _backend.same_random_numbers(self.process), keras.StatelessScope(known, collect_losses=True):
            y_pred = self.model.call_again(x)
            return self.model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)


class _OfStep(threading.local):
    """The optimizer of `compile`, and in each thread that of its running step."""

    def __init__(self, compiled):
        self.compiled, self.optimizer = [compiled], None


class HasFurtherPasses:
    """A mixin for a model whose steps take further passes. While one runs, `optimizer` replaces its gradients.

    Replicas of a step run in threads, so each thread has its own passes.
    """

    sharpness = None

    @property
    def takes_further_passes(self):
        return self.sharpness is not None

    @contextlib.contextmanager
    def further_passes(self, *arguments):
        passes = FurtherPasses(self, *arguments)
        self._of_step.optimizer = SharpenedOptimizer(self.optimizer, self.sharpness, passes.gradients)
        try:
            yield
        finally:
            self._of_step.optimizer = None

    @property
    def optimizer(self):
        of_step = self.__dict__.get("_of_step")
        if of_step is None:
            raise AttributeError("The model has no optimizer before `compile`.")
        return getattr(of_step, "optimizer", None) or of_step.compiled[0]

    @optimizer.setter
    def optimizer(self, optimizer):
        object.__setattr__(self, "_of_step", _OfStep(optimizer))

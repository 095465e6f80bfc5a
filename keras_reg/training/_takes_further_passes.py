"""The model whose training step takes further passes: for its penalties, and for the gradient at other weights."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import keras

from keras_reg import _backend
from keras_reg._inner_layers import inside
from keras_reg._typing import Tensors
from keras_reg._validation import fail
from keras_reg.training._custom_loop import check_scope
from keras_reg.training._further_passes import FurtherPasses
from keras_reg.training._sharpness_aware import SharpenedOptimizer, SharpnessAware
from keras_reg.training._uses_parts import UsesParts, note_use, runs_step


class _OfStep(threading.local):
    """The optimizer of `compile`, and in each thread the optimizer and the passes of its running step."""

    def __init__(self, compiled):
        self.compiled, self.optimizer, self.passes = [compiled], None, None
        self.in_training, self.in_test = True, False
        self.stateful = None  # the stateful layers of the network
        self.method = None  # the method of Keras that runs, such as "fit"


class TakesFurtherPasses(UsesParts):
    """A mixin for a model whose steps take further passes. During a step, `optimizer` replaces the gradients.

    Replicas of a step run in threads, so each thread has its own passes.
    """

    sharpness: SharpnessAware | None = None
    penalties = ()

    @property
    def takes_further_passes(self):
        return self.sharpness is not None or bool(self.penalties)

    def variables_that_passes_move(self):
        """Returns the variables from which a pass draws or continues: seeds, and the states of stateful RNNs."""
        of_step = self._of_step
        if of_step.stateful is None:  # looked for once, since this takes milliseconds
            of_step.stateful = [layer for layer in inside(self.model) if getattr(layer, "stateful", False)]
        states = [state for layer in of_step.stateful for state in keras.tree.flatten(getattr(layer, "states", None))]
        seeds = [variable for variable in self.non_trainable_variables if _backend.is_seed(variable)]
        return seeds + [state for state in states if isinstance(state, keras.Variable)]

    @contextlib.contextmanager
    def further_passes(self, *arguments):
        of_step = self._of_step
        passes = of_step.passes = FurtherPasses(self, *arguments)
        if self.sharpness is not None:
            note_use("sharpness")
            of_step.optimizer = SharpenedOptimizer(self.optimizer, self.sharpness, passes.gradients)
        try:
            yield
            if self.penalties and not passes.has_penalties:
                fail(
                    "`compute_loss` of a subclass must call `super().compute_loss`, which adds the penalties.",
                    model=type(self).__name__, penalties=[penalty.name for penalty in self.penalties],
                )  # fmt: skip
        finally:
            of_step.passes = of_step.optimizer = None

    @contextlib.contextmanager
    def in_method(self, name):
        """The context of a method of Keras, which computes a loss of placeholders to build the metrics."""
        of_step = self.__dict__.get("_of_step")
        if of_step is None:
            yield
            return
        outer, of_step.method = of_step.method, name
        try:
            yield
        finally:
            of_step.method = outer

    def current_passes(self):
        """Returns the passes of the running step. In a custom loop, the masks of the first pass are not known."""
        return self._of_step.passes or FurtherPasses(self)

    def sharpened_gradients(
        self, gradients: Sequence[Any], x: Tensors, y: Tensors = None, sample_weight: Tensors = None
    ) -> list[Any]:
        """Returns the gradients at w + e, which `sharpness` uses instead of those at w, for a custom loop.

        Pass them to `optimizer.apply`, which applies them at w. Random layers draw new masks for the pass at w + e.
        Moving statistics of normalization layers do not change.

        Args:
            gradients: The gradients of `compute_loss`, one per trainable variable, or `None` where the loss does not
                depend on the variable. If a `LossScaleOptimizer` scales the loss, pass the scaled gradients.
            x: Inputs of the batch, as `augment` returns them.
            y: Labels of the batch, as `augment` returns them.
            sample_weight: Sample weights of the batch, as `augment` returns them.

        Returns:
            A list of gradients. Without `sharpness`, these are the gradients that were passed.

        Raises:
            ValueError: If the number of gradients is not that of the trainable variables, or if JAX traces a step
                outside of a `keras.StatelessScope` with the variables of the model.
        """
        gradients, variables = list(gradients), self.trainable_variables  # type: ignore[attr-defined]
        if len(gradients) != len(variables):
            fail(
                f"`gradients` must have one entry per trainable variable, {len(variables)} in all.",
                gradients=f"{len(gradients)} entries",
            )
        if self.sharpness is None:
            return gradients
        check_scope(self, "sharpened_gradients", gradients)
        note_use("sharpness")
        with self.mixed_inside(x) as x:  # type: ignore[attr-defined]
            passes = FurtherPasses(self, (x, y, sample_weight))
            sharpened = SharpenedOptimizer(self.optimizer, self.sharpness, passes.gradients)
            return sharpened.replaced(gradients, [variable.value for variable in variables])

    def test_step(self, *state_and_data):
        # An override of `compute_loss` may not pass `training` on. Then Keras does not pass it either.
        of_step = self._of_step
        of_step.in_test = True
        try:
            return super().test_step(*state_and_data)
        finally:
            of_step.in_test = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the compiled loss and, in training, adds the penalties."""
        training = training and not self._of_step.in_test
        loss = self.compute_plain_loss(x, y, y_pred, sample_weight, training)
        if not self.penalties:
            return loss
        self._of_step.in_training = training
        if not training:
            return loss
        if runs_step() or not self._of_step.method:  # else Keras builds the metrics
            check_scope(self, "compute_loss", y_pred)
        note_use("penalties")
        step = self.current_passes()
        step.has_penalties = True
        examples = keras.ops.shape(keras.tree.flatten([x, y_pred])[0])[0]  # as Keras weights the loss in its logs
        with step.same_draws():
            for penalty, tracker in zip(self.penalties, self._terms, strict=True):
                added, term = penalty.added(step, x, y, y_pred, sample_weight)
                loss = loss + keras.ops.cast(_backend.share_of_replica(added), loss.dtype)
                tracker.update_state(term, sample_weight=examples)
        return loss

    def compute_plain_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the compiled loss, without penalties."""
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self.penalties and not self._trains():
            names = {tracker.name for tracker in self._terms}
            return {name: value for name, value in results.items() if name not in names}
        return results

    def _trains(self):
        """Whether metrics are those of training, which have the terms of the penalties.

        With replicas, `fit` asks in a thread in which no step runs, and where it has built the metrics.
        """
        of_step = self._of_step
        if of_step.in_test:
            return False
        return of_step.in_training if of_step.method is None else of_step.method in ("fit", "train_on_batch")

    @property
    def optimizer(self):
        of_step = self.__dict__.get("_of_step")
        if of_step is None:
            raise AttributeError("The model has no optimizer before `compile`.")
        return of_step.optimizer or of_step.compiled[0]

    @optimizer.setter
    def optimizer(self, optimizer):
        object.__setattr__(self, "_of_step", _OfStep(optimizer))

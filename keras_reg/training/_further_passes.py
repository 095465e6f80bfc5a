"""Further passes of the network in one training step, in addition to the pass whose gradient Keras computes."""

import contextlib

import keras

from keras_reg import _backend
from keras_reg.training._augmented_input import find_images, put_images
from keras_reg.training._own_loss import loss_of


class FurtherPasses:
    """Runs the network again in a training step, without updating any variables.

    Args:
        model: The model.
        batch: (x, y, sample_weight) after the augmentation, or `None` outside of a step.
        state: (variable, value) for variables that start each pass with their value before the first, such as seeds
            and the states of stateful RNNs.
        process: The state of the process' random generators before the first pass, or `None`.
        keys: (source, key) for the random sources of the network, which draw the same numbers in each pass. Empty if
            `state` is enough for this.
        keys_of_penalties: The same for those of penalties, which draw the same numbers in each computation of the loss.
    """

    def __init__(self, model, batch=None, state=(), process=None, keys=(), keys_of_penalties=()):
        self.model, self.batch, self.state, self.process = model, batch, list(state), process
        self.keys, self.keys_of_penalties = keys, keys_of_penalties
        self.has_penalties = False  # whether the loss of the step has the penalties

    def run(self, x, same_masks=True):
        """Returns the outputs for other inputs, at the current weights.

        Args:
            x: Inputs of the model.
            same_masks: Whether dropout and other random layers draw the same numbers as in the first pass. Otherwise,
                they draw new ones, and the next step continues after these draws.
        """
        model = self.model
        known = [(variable, variable.value) for variable in model.variables]
        if same_masks:
            with self._same_random_numbers(), keras.StatelessScope([*known, *self.state]):
                return model.call_again(x)
        others = [(variable, value) for variable, value in self.state if not _backend.is_seed(variable)]
        with keras.StatelessScope([*known, *others]) as scope:
            outputs = model.call_again(x)
        for variable in model.non_trainable_variables:
            if _backend.is_seed(variable):
                moved = scope.get_current_value(variable)
                if moved is not None:
                    variable.assign(moved)
        return outputs

    def has_random_layers(self):
        """Whether anything in the network draws random numbers: seeds are pairs of integers."""
        variables = self.model.model.non_trainable_variables
        return any(_backend.is_seed(variable) and tuple(variable.shape) == (2,) for variable in variables)

    def loss(self, y, y_pred, sample_weight):
        """Returns the compiled loss of these outputs, without penalties. Metrics count only that of the first pass.

        With `tf.distribute`, this is the mean over the examples of the replica, as what penalties add is.
        """
        known = [(variable, variable.value) for variable in self.model.variables]
        with keras.StatelessScope([*known, *self._without_logs()]):
            share = self.model.compute_plain_loss(self.batch[0] if self.batch else None, y, y_pred, sample_weight)
        return _backend.mean_of_replica(share)

    def _without_logs(self):
        """Returns (variable, value) for the variables of the metrics, so that a scope discards their updates."""
        return [(v, keras.ops.zeros(v.shape, v.dtype)) for v in self.model.metrics_variables]

    def same_draws(self):
        """Returns a context in which the penalties of a step draw the same numbers in each computation of the loss."""
        return _backend.given_keys(self.keys_of_penalties)

    def changed_input(self, x, augmentation=None):
        """Returns (place, array): the input that a penalty, or its augmentation, may change."""
        return find_images(x, self.model.model, augmentation, self.model.augmented_input)

    def with_input(self, x, place, array):
        """Returns the inputs with another array at this place."""
        return put_images(x, place, array)

    def gradients(self, weights, scale):
        """Returns the gradients of `scale` times the loss at other values of the trainable weights."""
        return _backend.gradients_at(lambda values: keras.ops.multiply(scale, self._loss(values)), weights)

    def _loss(self, weights):
        x, y, sample_weight = self.batch
        known = [*zip(self.model.trainable_variables, weights, strict=True), *self.state, *self._without_logs()]
        with self._same_random_numbers(), keras.StatelessScope(known, collect_losses=True):
            y_pred = self.model.call_again(x)
            return loss_of(self.model, x, y, y_pred, sample_weight, training=True)

    @contextlib.contextmanager
    def _same_random_numbers(self):
        """The context of a pass whose random layers that have no state here draw the numbers of the first pass."""
        with _backend.same_random_numbers(self.process), _backend.given_keys(self.keys):
            yield

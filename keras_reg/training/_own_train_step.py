import contextlib

import keras
from keras import ops

from keras_reg import _backend
from keras_reg._dtypes import is_float
from keras_reg._overrides import overrides
from keras_reg.layers._batch._content import map_arrays
from keras_reg.layers._batch._shapes import one_number_each
from keras_reg.training._own_loss import OwnLoss


class OwnTrainStep(OwnLoss):
    """A model that uses the steps of its network, if the network overrides `train_step`."""

    def data_of_step(self, given, *augmented):
        """Returns the augmented data of a step, in the form of the given data if the network takes the step."""
        return _in_form(given, *augmented) if self.has_own_train_step else augmented

    def train_step(self, *state_and_data):
        if not self.has_own_train_step:
            return super().train_step(*state_and_data)
        with self._shared_optimizer():
            return _backend.run_step_of(self, self.model, "train_step", *state_and_data)

    def test_step(self, *state_and_data):
        if not self.has_own_train_step:
            return super().test_step(*state_and_data)
        *state, data = state_and_data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        data = _in_form(data, x, self._labels_as_trained(x, y), sample_weight)
        return _backend.run_step_of(self, self.model, "test_step", *state, data)

    def predict_step(self, *state_and_data):
        if not overrides(self.model, "predict_step"):
            return super().predict_step(*state_and_data)
        return _backend.run_step_of(self, self.model, "predict_step", *state_and_data)

    @contextlib.contextmanager
    def _shared_optimizer(self):
        """Lets the network use the optimizer of this model, which a callback may have replaced."""
        before = self.model.optimizer
        if before is self.optimizer:
            yield
            return
        self.model.optimizer = self.optimizer
        try:
            yield
        finally:
            self.model.optimizer = before

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if not self.has_own_train_step:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        y = self._labels_of_build(x, y)
        self.build_metrics_of_network(x, y, y_pred, sample_weight)
        results = self.model.compute_metrics(x, y, y_pred, sample_weight)
        keras.Model.compute_metrics(self, x, y, y_pred, sample_weight)  # builds the empty set of metrics
        return results

    def _labels_of_build(self, x, y):
        """With a `MirroredStrategy`, Keras builds metrics with means of the labels over replicas, which are floats."""
        try:
            return self._labels_as_trained(x, y)
        except ValueError:
            return self._labels_as_trained(x, map_arrays(lambda labels: ops.cast(labels, "int32"), y))

    def _labels_as_trained(self, x, y):
        """Converts class ids to one-hot labels if the augmentation does so in training: losses expect one form."""
        if self.augmentation is None or y is None:
            return y
        _, spec = self.augmentation.compute_output_spec(self._find_images(x)[1], y)

        def formed(labels, trained):
            if is_float(labels) or not one_number_each(labels) or tuple(trained.shape[1:]) == tuple(labels.shape[1:]):
                return labels
            return ops.one_hot(ops.reshape(labels, [-1]), trained.shape[-1], dtype="float32")

        return map_arrays(formed, y, spec)


def _in_form(data, *parts):
    """Returns x, y and sample weights in the form of the data of a step: without a tuple for x alone."""
    return parts[: len(data)] if isinstance(data, (tuple, list)) else parts[0]

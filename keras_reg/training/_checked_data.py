import keras

from keras_reg.training._labels import check_held
from keras_reg.training._trained_size import check_trained_size, inputs_of


class ChecksData:
    """Looks at what is given to `fit`, `evaluate` and their like before Keras has cast or moved it."""

    def fit(self, x=None, y=None, *args, **kwargs):
        check_held(y)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        check_held(y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        check_held(y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        check_held(y)
        self._check_trained_size(x)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        self._check_trained_size(x)
        return super().predict(x, *args, **kwargs)

    def test_step(self, *state_and_data):
        self._check_trained_size(keras.utils.unpack_x_y_sample_weight(state_and_data[-1])[0])
        return super().test_step(*state_and_data)

    def predict_step(self, *state_and_data):
        self._check_trained_size(keras.utils.unpack_x_y_sample_weight(state_and_data[-1])[0])
        return super().predict_step(*state_and_data)

    def _check_trained_size(self, x):
        inputs = inputs_of(x)
        several = isinstance(inputs, (dict, list, tuple)) and len(inputs) > 1
        if inputs is not None and not (several and self.augmentation.mixes):
            check_trained_size(self.augmentation, self._find_images(inputs)[1])

"""What `WeightAverage` needs of a model."""

import keras

from keras_reg._validation import fail
from keras_reg.callbacks._averaged_weights import keeps_averages
from keras_reg.callbacks._train_function import strategy_scope


def check_model(model, every):
    """Refuses a model of which no average can be kept, and builds its optimizer."""
    optimizer = getattr(model, "optimizer", None)
    if not model.built:
        fail("`WeightAverage` needs a model that is built before `fit`.", model=model.name)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        fail("`WeightAverage` needs a model that is compiled with a Keras optimizer.", optimizer=optimizer)
    if every == "step" and keras.distribution.distribution() is not None:
        fail(
            'Under `keras.distribution`, `WeightAverage` needs `every="epoch"`, since the layout of the state of a '
            "step is fixed.",
            every=every,
        )
    if keeps_averages(optimizer):
        fail("`WeightAverage` needs an optimizer that does not average weights itself.", use_ema=True)
    if not optimizer.built:
        with strategy_scope(model):
            optimizer.build(model.trainable_variables)

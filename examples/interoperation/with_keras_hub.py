# %% [markdown]
# # KerasHub
#
# A KerasHub task, such as an image classifier, is a Keras model. `RegularizedModel` trains it, `surgery.regularize`
# adds regularizers to its backbone, and `TransferLearner` accepts the backbone. `from_preset` downloads pretrained
# weights. Here the backbone is built from its arguments.

# %%
import keras_hub
import numpy as np
from sklearn.datasets import load_digits

import keras_reg


# %%
def backbone():
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(16, 16, 1),
    )


def main(epochs=2, count=64):
    """Trains a classifier with augmentation. Returns the classifier, its history and the data."""
    x, y = load_digits(return_X_y=True)
    x = np.kron(x.reshape(-1, 8, 8, 1)[:count], np.ones((1, 2, 2, 1))).astype("float32") / 16
    y = y[:count]

    classifier = keras_hub.models.ResNetImageClassifier(backbone(), num_classes=10)
    augmentation = keras_reg.layers.RandomChoice([keras_reg.layers.MixUp(0.2), keras_reg.layers.CutMix()], seed=1)
    model = keras_reg.training.RegularizedModel(classifier, augmentation)
    model.compile("adam", keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True), metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return classifier, history.history, (x, y)


if __name__ == "__main__":
    print(main()[1])

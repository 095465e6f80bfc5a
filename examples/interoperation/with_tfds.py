# %% [markdown]
# # TensorFlow Datasets
#
# This script builds a TFDS dataset from scikit-learn's digits, so that nothing is downloaded. Replace it with
# `tfds.load` of any dataset. TFDS returns a `tf.data.Dataset`, so map the layer over its batches. This works on every
# backend.

# %%
import tempfile

import keras
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

import keras_reg


# %%
class SmallDigits(tfds.core.GeneratorBasedBuilder):
    """Two hundred digits of 8x8 pixels, in two splits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=tuple(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 160), "test": self._generate_examples(160, 200)}

    def _generate_examples(self, start, stop):
        images, labels = load_digits(return_X_y=True)
        for index in range(start, stop):
            yield index, {"image": (images[index] * 15).astype("uint8").reshape(8, 8, 1), "label": labels[index]}


# %%
def main(epochs=3, folder=None):
    """Trains on the mapped dataset. Returns the history and one mapped batch."""
    builder = SmallDigits(data_dir=folder or tempfile.mkdtemp())
    builder.download_and_prepare()
    train, test = builder.as_dataset(split=["train", "test"], as_supervised=True)

    augmentation = keras_reg.layers.Pipeline(
        [
            keras_reg.layers.RandomErasing(0.5, value_range=(0, 255)),
            keras_reg.layers.CutMix(num_classes=10),  # integer labels in, one-hot labels out
        ],
        seed=1,
    )
    train = train.shuffle(160, seed=1).batch(32).map(augmentation, num_parallel_calls=2)
    one_hot = keras.layers.CategoryEncoding(10, output_mode="one_hot")
    test = test.batch(32).map(lambda x, y: (x, one_hot(y)))

    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-2), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    history = model.fit(train, validation_data=test, epochs=epochs, shuffle=False, verbose=0)
    return history.history, next(train.as_numpy_iterator())


if __name__ == "__main__":
    print(main()[0])

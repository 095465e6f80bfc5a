# %% [markdown]
# # Grain
#
# Grain reads data in threads or processes, without TensorFlow. `map_with_index` passes the index of the batch to the
# layer. The random numbers then depend only on the seed and the index, so the run is reproducible, whatever the order
# in which the threads work.

# %%
import grain
import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_reg


# %%
def batches(seed=1, epochs=1):
    """Augmented batches of digits, read by four threads."""
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")[:256]
    augmentation = keras_reg.layers.Pipeline(
        [keras_reg.layers.RandomPadCrop(1), keras_reg.layers.CutMix(rate=0.5, num_classes=10)], seed=seed
    )
    dataset = grain.MapDataset.range(256).seed(seed).shuffle().repeat(epochs)
    dataset = dataset.map(lambda i: (x[i], y[i])).batch(32)
    dataset = dataset.map_with_index(lambda i, batch: augmentation(batch, index=i))
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8))


def main(epochs=3):
    """Trains on the batches and returns the history."""
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.Adam(1e-2), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    endless = (tuple(map(np.asarray, batch)) for batch in batches(epochs=epochs))
    return model.fit(endless, steps_per_epoch=8, epochs=epochs, shuffle=False, verbose=0).history


if __name__ == "__main__":
    print(main())

# %% [markdown]
# # torch.utils.data.DataLoader
#
# Keras trains on a `DataLoader` on every backend. Call the layer in `collate_fn`, after the examples are collated into
# a batch. With `num_workers`, it runs in the workers, which draw different random numbers.

# %%
import keras
import torch
from sklearn.datasets import load_digits

import keras_reg


# %%
class Collate:
    """Collates examples and augments the batch. This is a class, so that spawned workers can unpickle it."""

    def __init__(self, augmentation):
        self.augmentation = augmentation

    def __call__(self, examples):
        images, labels = torch.utils.data.default_collate(examples)
        mixed = self.augmentation(images.numpy(), labels.numpy())
        return [torch.from_numpy(keras.ops.convert_to_numpy(part)) for part in mixed]  # Keras expects PyTorch tensors


def loader(num_workers=0):
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")[:256]
    examples = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y[:256]))
    augmentation = keras_reg.layers.RandomChoice(
        [keras_reg.layers.MixUp(0.2, num_classes=10), keras_reg.layers.CutMix(num_classes=10)], mode="sample"
    )
    return torch.utils.data.DataLoader(
        examples, batch_size=32, shuffle=True, num_workers=num_workers, collate_fn=Collate(augmentation)
    )


def main(epochs=3, num_workers=0):
    """Trains on a `DataLoader` and returns the history."""
    torch.manual_seed(1)  # the order and the random numbers of the workers
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.Adam(1e-2), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model.fit(loader(num_workers), epochs=epochs, shuffle=False, verbose=0).history


if __name__ == "__main__":
    print(main())

# %% [markdown]
# # KerasCV
#
# KerasCV is no longer developed, but many input pipelines use its image layers. Both libraries use the same
# dictionaries of `images`, `labels`, `segmentation_masks` and so on, so their layers can be combined in `tf.data` on
# every backend.

# %%
import keras_cv
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_sample_images

import keras_reg


# %%
def main(batches=4):
    """Augments two photographs with layers of both libraries, and returns the batches."""
    images = np.stack(load_sample_images().images)[:, ::8, ::8].astype("float32")
    masks = (images.mean(-1, keepdims=True) > 128).astype("uint8")
    batch = {"images": images, "labels": np.eye(2, dtype="float32"), "segmentation_masks": masks}

    dataset = tf.data.Dataset.from_tensors(batch).repeat(batches)
    dataset = dataset.map(keras_cv.layers.RandomFlip("horizontal", seed=1))
    dataset = dataset.map(keras_reg.layers.CutMix(seed=1), num_parallel_calls=2)
    return list(dataset.as_numpy_iterator())


if __name__ == "__main__":
    for batch in main():
        print({name: value.shape for name, value in batch.items()}, batch["labels"].round(2).tolist())

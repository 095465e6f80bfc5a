# %% [markdown]
# # KerasCV
#
# KerasCV is no longer developed, yet its image layers are in many input pipelines. They and ours speak the same
# dictionaries, `images`, `labels`, `segmentation_masks` and so on, so they stand one after the other in `tf.data`, on
# every backend.

# %%
import keras_cv
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_sample_images

import keras_reg


# %%
def main(batches=4):
    """Augments two photographs by layers of both; returns the batches that come out."""
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

"""Seconds of a warm-up of a new head, with the backbone's features computed once and in every epoch.

    KERAS_BACKEND=jax python examples/benchmarks/bench_feature_cache.py [--quick] [--json FILE]

Ten epochs with MobileNetV2 at 96x96 (random weights serve), compilation included in both. The weights of the head in
the end are compared too: they are the same but for the order of additions.
"""

import time

import keras
import numpy as np
from benchmarking import parse, parser, save

from keras_reg.transfer import Phase, TransferLearner

CLASSES = 10


def give_statistics(backbone, images):
    """Moving averages for random weights: without them, nothing of an image would be left after fifty layers."""
    normalizations = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    backbone(keras.ops.convert_to_tensor(images.astype("float32") / 127.5 - 1), training=True)


def warm_up(cache, images, labels, application, epochs, batch_size):
    """(seconds, weights of the head)."""
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, application)
    backbone = make(include_top=False, weights=None, input_shape=images.shape[1:])
    give_statistics(backbone, images[:64])
    learner = TransferLearner(backbone, CLASSES, preprocess="auto")
    phase = Phase("warm up", epochs, optimizer=keras.optimizers.SGD(1e-3, momentum=0.9), cache_features=cache)
    start = time.perf_counter()
    learner.fit((images, labels), phases=[phase], batch_size=batch_size, seed=0, verbose=0)
    return time.perf_counter() - start, learner.model.get_layer("head").get_weights()


def main(argv=None):
    made = parser(__doc__)
    made.add_argument("--application", default="MobileNetV2", help="of keras.applications (default: MobileNetV2)")
    made.add_argument("--images", type=int, default=2048)
    made.add_argument("--size", type=int, default=96)
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--batch-size", type=int, default=32)
    given = parse(made, argv)
    count, size = (64, 32) if given.quick else (given.images, given.size)
    given.epochs = min(given.epochs, 3) if given.quick else given.epochs
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3)).astype("uint8")
    labels = (np.arange(count) % CLASSES).astype("int32")
    backend = keras.backend.backend()
    print(f"\n{given.application} on {backend}: {count} images of {size}x{size}, {given.epochs} epochs of a warm-up")
    found = {}
    for name, cache in (("in every epoch", False), ("once", True)):
        found[name] = warm_up(cache, images, labels, given.application, given.epochs, given.batch_size)
        print(f"  features computed {name:15}{found[name][0]:8.1f} s", flush=True)
    (slow, plain), (fast, cached) = found["in every epoch"], found["once"]
    apart = max(float(np.abs(a - b).max()) for a, b in zip(plain, cached, strict=True))
    result = {"backend": backend, "every_epoch": slow, "once": fast, "ratio": slow / fast, "weights_apart": apart}
    print(f"  {slow / fast:.1f} times faster; the heads differ by {apart:.1e} at most")
    save(given.json, "feature_cache", [result | {"images": count, "size": size}], given.quick)
    return result


if __name__ == "__main__":
    main()

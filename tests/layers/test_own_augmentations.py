"""An augmentation that a user writes with public names alone gets everything else for nothing."""

import re
import sys
import threading
import types

import harness
import keras
import numpy as np
import pytest
from harness import jit, map_in_tf_data, raises_received, run_in_fresh_process, slow_on, to_numpy
from layers.batches import assert_same_bits

from keras_reg import Strength
from keras_reg.callbacks import StrengthSchedule
from keras_reg.layers import BatchAugmentation, MixUp, Pipeline, RandomApply, RandomChoice, RandomErasing, RandomFlip
from keras_reg.training import RegularizedModel

# The two classes of docs/own_augmentations.md, with their imports, as a module of a user.
PAGE = (harness.ROOT / "docs" / "own_augmentations.md").read_text(encoding="utf-8")
SOURCE = "\n".join(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "\nclass " in code)
own = types.ModuleType("own_augmentations")
sys.modules[own.__name__] = own
exec(compile(SOURCE, "docs/own_augmentations.md", "exec"), own.__dict__)
RandomRoll, OrdinalNoise = own.RandomRoll, own.OrdinalNoise

CLASSES = 5
IMAGES = np.random.default_rng(0).random((8, 3, 6, 2)).astype("float32")
LABELS = np.arange(8, dtype="int32") % CLASSES


def steps_between(before, after):
    """By how many columns each image was rolled; every pixel must agree."""
    found = []
    for old, new in zip(before, after, strict=True):
        (step,) = [step for step in range(old.shape[1]) if np.array_equal(np.roll(old, -step, axis=1), new)]
        found.append(step)
    return np.array(found)


def neighbours(labels, found):
    moved = found - labels
    assert set(np.unique(moved)) <= {-1, 0, 1} and found.min() >= 0 and found.max() < CLASSES
    return moved


def test_every_call_form_and_one_seed():
    calls = [
        lambda layer: layer(IMAGES),
        lambda layer: layer(IMAGES, LABELS)[0],
        lambda layer: layer((IMAGES, LABELS, np.ones(8, "float32")))[0],
        lambda layer: layer({"images": IMAGES, "labels": LABELS})["images"],
        lambda layer: jit(layer, layer)(IMAGES),
    ]
    found = [to_numpy(call(RandomRoll(4, seed=3))) for call in calls]
    assert len(set(steps_between(IMAGES, found[0]))) > 2
    for other in found[1:-1]:
        assert_same_bits(other, found[0])
    assert steps_between(IMAGES, found[-1]).any()
    layer = RandomRoll(4, seed=3)
    assert_same_bits(to_numpy(layer(IMAGES, index=7)), to_numpy(layer(IMAGES, index=7)))
    assert_same_bits(to_numpy(layer(IMAGES, training=False)), IMAGES)
    assert any(steps_between(IMAGES[:1], to_numpy(layer(IMAGES[0]))[None]) for _ in range(4))
    assert layer(keras.Input((3, 6, 2))).shape == (None, 3, 6, 2)


def test_the_rate_is_that_of_each_image_and_integers_stay():
    images = np.broadcast_to(np.arange(6, dtype="uint8")[None, None, :, None], (400, 1, 6, 1))
    found = to_numpy(RandomRoll(10**6, rate=0.3, seed=1)(images))
    assert found.dtype == "uint8"
    assert 0.15 < (steps_between(images, found) > 0).mean() < 0.35  # 0.3 * 5 / 6
    labels = np.full(400, 2, "int32")
    moved = neighbours(labels, to_numpy(OrdinalNoise(CLASSES, rate=0.3, seed=1)(images, labels)[1]))
    assert 0.2 < (moved != 0).mean() < 0.4 and {-1, 0, 1} == set(moved)


def test_masks_maps_and_pixel_weights_move_with_the_images():
    masks = IMAGES[..., 0].copy()
    batch = {"images": IMAGES, "labels": IMAGES[..., :1], "segmentation_masks": masks, "sample_weights": masks}
    found = to_numpy(RandomRoll(4, rate=0.5, seed=2)(batch))
    for name in ("segmentation_masks", "sample_weights"):
        assert_same_bits(found[name], found["images"][..., 0])
    assert_same_bits(found["labels"], found["images"][..., :1])


def test_channels_first():
    last, first = (RandomRoll(4, rate=0.5, data_format=f"channels_{name}", seed=2) for name in ("last", "first"))
    masks = IMAGES[..., 0].copy()
    found = to_numpy(first({"images": IMAGES.transpose(0, 3, 1, 2), "segmentation_masks": masks}))
    assert_same_bits(found["images"].transpose(0, 2, 3, 1), to_numpy(last(IMAGES)))
    assert_same_bits(found["segmentation_masks"], found["images"][:, 0])


def test_tf_data_under_every_backend():
    layer = Pipeline([RandomRoll(4, rate=0.9), OrdinalNoise(CLASSES, rate=0.5)], seed=4)
    batches = map_in_tf_data(layer, (IMAGES, LABELS), batch_size=4, num_parallel_calls=2)
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert len(set(steps_between(IMAGES, images))) > 1 and set(neighbours(LABELS, labels)) - {0}
    ((image, label),) = map_in_tf_data(layer, (IMAGES[:1], LABELS[:1]))
    steps_between(IMAGES[:1], image[None])
    assert label.shape == ()


def test_numpy_in_a_worker_thread():
    """As Grain and a PyTorch `DataLoader` call it."""
    layer, found = Pipeline([RandomRoll(4), OrdinalNoise(CLASSES)], seed=4), []
    thread = threading.Thread(target=lambda: found.append(layer(IMAGES, LABELS)))
    thread.start()
    thread.join()
    ((images, labels),) = found
    assert isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)
    assert len(set(steps_between(IMAGES, images))) > 1 and 0 not in neighbours(LABELS, labels)[1:4]


def identity():
    """A network whose logits are its input."""
    dense = keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer=keras.initializers.Identity())
    return keras.Sequential([keras.Input((1, CLASSES, 1)), keras.layers.Flatten(), dense])


def test_the_training_step_mixes_the_noisy_labels_and_metrics_see_the_true_ones():
    labels = np.arange(64) % CLASSES
    images = 9 * np.eye(CLASSES, dtype="float32")[labels].reshape(64, 1, CLASSES, 1)
    model = RegularizedModel(identity(), Pipeline([OrdinalNoise(CLASSES), MixUp(1.0)], seed=5))
    x, y, _ = model.augment(images, labels)
    assert len(y.labels) == 2 and 0 not in neighbours(labels, to_numpy(y.labels[0]))[labels % 4 != 0]
    np.testing.assert_array_equal(to_numpy(y.dominant), to_numpy(x).reshape(64, CLASSES).argmax(axis=1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = RegularizedModel(identity(), OrdinalNoise(CLASSES, seed=5))
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    history = model.fit(images, labels, batch_size=32, verbose=0).history
    assert history["accuracy"] == [1.0] and history["loss"][0] > 5


def test_within_choices():
    layer = RandomChoice([RandomApply(RandomRoll(4), 0.7), OrdinalNoise(CLASSES)], seed=6)
    moved = [to_numpy(layer(IMAGES, LABELS)) for _ in range(12)]
    rolled = [bool(steps_between(IMAGES, images).any()) for images, _ in moved]
    noisy = [bool(neighbours(LABELS, labels).any()) for _, labels in moved]
    assert any(rolled) and any(noisy) and not any(a and b for a, b in zip(rolled, noisy, strict=True))


def test_a_strength_moves_the_rate():
    layer = RandomRoll(4, rate=Strength(1.0), seed=7)
    network = keras.Sequential([keras.Input((3, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model = RegularizedModel(network, layer)
    model.compile("sgd", "mse")
    assert steps_between(IMAGES, to_numpy(layer(IMAGES))).any()
    model.fit(IMAGES, np.zeros((8, 1)), verbose=0, callbacks=[StrengthSchedule(lambda epoch: 0.0)])
    assert_same_bits(to_numpy(layer(IMAGES)), IMAGES)
    assert_same_bits(map_in_tf_data(layer, IMAGES, batch_size=8)[0], IMAGES)


@slow_on("tensorflow", "jax")
def test_a_model_that_holds_them_loads_in_a_new_process(tmp_path):
    network = keras.Sequential([keras.Input((3, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
    layer = Pipeline([RandomRoll(4, rate=0.5), OrdinalNoise(CLASSES, rate=Strength(0.5))], seed=8)
    RegularizedModel(network, layer).save(tmp_path / "model.keras")
    (tmp_path / "own_augmentations.py").write_text(SOURCE)
    np.save(tmp_path / "images.npy", IMAGES)
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import keras, numpy as np, keras_reg, own_augmentations
        from harness import to_numpy
        layer = keras.saving.load_model({str(tmp_path / "model.keras")!r}).augmentation
        images, labels = layer(np.load({str(tmp_path / "images.npy")!r}), np.arange(8, dtype="int32") % 5, index=3)
        np.savez({str(tmp_path / "found.npz")!r}, images=to_numpy(images), labels=to_numpy(labels))
        assert [type(x).__name__ for x in layer.layers] == ["RandomRoll", "OrdinalNoise"] and layer.layers[0].most == 4
    """
    run_in_fresh_process(code)
    found = np.load(tmp_path / "found.npz")
    images, labels = to_numpy(layer(IMAGES, LABELS, index=3))
    assert_same_bits(found["images"], images)
    np.testing.assert_array_equal(found["labels"], labels)


# What hooks must not do.


class Changes(BatchAugmentation):
    """A hook that the tests replace."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def transform_images(self, images, transformation, batch):
        return self.function(images, batch.ops)


def test_masks_and_boxes_are_never_left_behind():
    masks, boxes = IMAGES[..., 0].copy(), {"boxes": np.ones((8, 1, 4), "float32"), "classes": np.ones((8, 1), "int32")}
    with raises_received("moves_pixels", "transform_segmentation_masks"):
        Changes(lambda x, ops: x)({"images": IMAGES, "segmentation_masks": masks})
    with raises_received("moves_pixels", "transform_segmentation_masks"):
        Changes(lambda x, ops: x)(IMAGES, masks)
    with raises_received("moves_pixels", "transform_bounding_boxes"):
        RandomRoll(2)({"images": IMAGES, "bounding_boxes": boxes})
    with raises_received("keypoints"):
        RandomRoll(2)({"images": IMAGES, "keypoints": np.ones((8, 3, 2))})
    layer = Changes(lambda x, ops: 1 - x)
    layer.moves_pixels = False
    found = to_numpy(layer({"images": IMAGES, "segmentation_masks": masks, "bounding_boxes": boxes}))
    assert_same_bits(found["segmentation_masks"], masks)
    np.testing.assert_allclose(found["images"], 1 - IMAGES)


def test_hooks_keep_shapes_and_dtypes():
    with raises_received("transform_images", "shape"):
        Changes(lambda x, ops: x[:, 1:])(IMAGES)
    with raises_received("transform_images", "dtype"):
        Changes(lambda x, ops: ops.cast(x, "int32"))(IMAGES)
    with raises_received("labels"):
        OrdinalNoise(CLASSES)(IMAGES)
    for returned in (None, 0.5):
        with raises_received("transform_images", "one array"):
            Changes(lambda x, ops, returned=returned: returned)(IMAGES)
    for rate in (1.0, 0.5):  # one sample would be spread over the batch
        with raises_received("transform_images", "shape"):
            Changes(lambda x, ops: x[:1], rate=rate)(IMAGES)


class Shrinks(BatchAugmentation):
    """Takes every second row."""

    def compute_image_shape(self, image_shape):
        return (image_shape[0], image_shape[1] // 2, *image_shape[2:])

    def transform_images(self, images, transformation, batch):
        return images[:, 1::2]

    transform_segmentation_masks = transform_images


def test_images_and_masks_may_change_their_size():
    masks = IMAGES[..., 0].copy()
    found = to_numpy(Shrinks()({"images": IMAGES, "segmentation_masks": masks}))
    assert_same_bits(found["images"], IMAGES[:, 1::2])
    assert_same_bits(found["segmentation_masks"], masks[:, 1::2])
    specs = Shrinks()({"images": keras.Input((6, 5, 2)), "segmentation_masks": keras.Input((6, 5))})
    assert specs["images"].shape == (None, 3, 5, 2) and specs["segmentation_masks"].shape == (None, 3, 5)
    with raises_received("keep the shape"):
        Shrinks(rate=0.5)(IMAGES)


@pytest.mark.parametrize("end", [slice(None, 1), slice(None, None, 3)])
def test_the_size_is_that_of_compute_image_shape(end):
    class Differs(Shrinks):
        def transform_images(self, images, transformation, batch):
            return images[:, end]

    with raises_received("compute_image_shape"):
        Differs()(np.ones((2, 8, 5, 2), "float32"))


def test_boxes_come_back_whole():
    boxes = {"boxes": np.ones((8, 1, 4), "float32"), "classes": np.ones((8, 1), "int32")}

    class Forgets(BatchAugmentation):
        def transform_bounding_boxes(self, bounding_boxes, transformation, batch):
            return self.returned(bounding_boxes)

    layer = Forgets()
    for returned in (lambda boxes: None, lambda boxes: {"boxes": boxes["boxes"]}):
        layer.returned = returned
        with raises_received("transform_bounding_boxes", "classes"):
            layer({"images": IMAGES, "bounding_boxes": boxes})


def test_kinds_are_those_that_there_are():
    for kinds in ("image", ("images",), ()):
        with raises_received("kinds"):
            type("Knows", (BatchAugmentation,), {"kinds": kinds})()


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "bfloat16"])
def test_images_come_in_the_compute_dtype_and_go_out_in_it(dtype):
    seen = []
    layer = Changes(lambda x, ops: seen.append(x.dtype) or x * 2, dtype=dtype, rate=0.5)
    found = layer(np.full((4, 2, 2, 1), 3, "uint8"))
    assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
    assert {3.0, 6.0} >= set(to_numpy(keras.ops.cast(found, "float32")).ravel())


class Operations(BatchAugmentation):
    """Keeps the operations that its hook was given."""

    moves_pixels = False

    def transform_images(self, images, transformation, batch):
        self.found = batch.ops
        return images


def operations_in_a_worker():
    layer = Operations()
    thread = threading.Thread(target=layer, args=(IMAGES,))
    thread.start()
    thread.join()
    return layer.found


def operations_in_tf_data():
    layer = Operations()
    map_in_tf_data(layer, IMAGES, 8)
    return layer.found


@pytest.mark.parametrize("operations_of", [operations_in_a_worker, operations_in_tf_data])
def test_operations_on_other_arrays_are_those_of_keras_that_the_page_lists(operations_of):
    """On arrays that the backend cannot hold there is a part of `keras.ops`, the same part for NumPy and TensorFlow."""
    listed = re.search(r"These operations are available everywhere: (.*?)\.\n", PAGE, re.S).group(1)
    listed = set(re.findall(r"\w+", listed))
    assert listed <= set(dir(keras.ops))
    found = operations_of()
    if found is keras.ops:
        return
    assert set(vars(found)) == listed
    with pytest.raises(AttributeError, match=r"no `ops\.cumprod`.*Available: abs, all"):
        found.cumprod  # noqa: B018


def test_operations_on_other_arrays_compute_what_those_of_keras_do():
    x = np.array([[-1.5, 2.0, 0.5], [3.0, -0.25, 1.0]], "float32")
    calls = {
        "flip": lambda ops, x: ops.flip(x, axis=1),
        "flip of all": lambda ops, x: ops.flip(x),
        "sign": lambda ops, x: ops.sign(x),
        "zeros": lambda ops, x: ops.zeros((2, 3)),
        "take_along_axis": lambda ops, x: ops.take_along_axis(x, ops.cast(x > 0, "int32"), axis=1),
        "clip": lambda ops, x: ops.clip(x, 0, 1),
        "where": lambda ops, x: ops.where(x > 0, x, 1),
    }

    class Computes(BatchAugmentation):
        moves_pixels = False

        def transform_images(self, images, transformation, batch):
            return images + call(batch.ops, batch.ops.convert_to_tensor(x))[None, :, :, None]

    images = np.zeros((1, 2, 3, 1), "float32")
    for name, call in calls.items():
        expected = to_numpy(call(keras.ops, keras.ops.convert_to_tensor(x)))
        (mapped,) = map_in_tf_data(Computes(), images, 1)
        found = {}
        thread = threading.Thread(target=lambda: found.update(worker=Computes()(images)))  # noqa: B023
        thread.start()
        thread.join()
        for array in (mapped, found["worker"]):
            np.testing.assert_array_equal(to_numpy(array)[0, ..., 0], expected, err_msg=name)


@pytest.mark.parametrize("base", [MixUp, Pipeline])
def test_hooks_that_would_never_be_called_are_refused(base):
    hooks = {"transform_images": lambda self, images, transformation, batch: 1 - images}
    with raises_received("transform_images", "BatchAugmentation"):
        type("Own", (base,), hooks)(*([[MixUp()]] if base is Pipeline else []))
    assert type("Own", (base,), {})(*([[MixUp()]] if base is Pipeline else [])).built


def test_a_misspelled_hook_is_refused():
    class Bright(BatchAugmentation):
        def transform_image(self, images, transformation, batch):
            return 2 * images

    with raises_received("`Bright` must define a hook", "methods=['transform_image']"):
        Bright()


def test_images_that_a_subclass_returns_are_not_overwritten():
    """The layer that it extends makes new images, in which the next layer may erase in place."""

    class Still(RandomFlip):
        def transform_images(self, images, transformation, batch):
            return images

    images = keras.ops.convert_to_tensor(np.ones((2, 8, 8, 3), "float32"))
    erased = Pipeline([Still(seed=1), RandomErasing(1.0, seed=1)])(images)
    assert to_numpy(erased).min() < 1 and to_numpy(images).min() == 1


def test_a_setting_that_was_stored_before_the_constructor_of_the_base_class():
    """Large batches run in a compiled program, which is made again if a setting changes."""

    class Gain(BatchAugmentation):
        moves_pixels = False

        def __init__(self, gain, **kwargs):
            self._gain = gain
            super().__init__(**kwargs)

        def transform_images(self, images, transformation, batch):
            return images * self._gain

    layer, images = Gain(2.0), np.ones((4, 200, 200, 3), "float32")
    layer(images)
    layer._gain = 3.0
    assert to_numpy(layer(images)).max() == 3 == to_numpy(layer(images[:1, :2, :2])).max()


def test_a_layer_for_signals_needs_no_kind():
    """Its hooks see a signal as an image of width 1."""
    shapes = []

    class Fades(BatchAugmentation):
        kinds = ("signal",)
        moves_pixels = False

        def transform_images(self, images, transformation, batch):
            shapes.append(tuple(images.shape))
            return 0.5 * images

    faded = to_numpy(Fades()(np.ones((2, 10, 3), "float32")))
    assert faded.shape == (2, 10, 3) and (faded == 0.5).all() and shapes == [(2, 10, 1, 3)]

    class Brightens(BatchAugmentation):
        def transform_images(self, images, transformation, batch):
            return 2 * images

    with raises_received("Set its attribute `kinds`", "kind='signal'"):
        Brightens(kind="signal")(np.ones((2, 10, 3)))

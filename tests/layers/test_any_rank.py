"""Features, signals, images and videos: one draw for each sample, against NumPy; several inputs; what is refused."""

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers.batches import assert_same_bits, augment, augmenter, coded, decoded

from keras_reg import layers
from keras_reg.training import RegularizedModel

COUNT, TIME, HEIGHT, WIDTH, CHANNELS = 8, 7, 6, 5, 3
SHAPES = {
    "features": (COUNT, 4),
    "signals": (COUNT, TIME, CHANNELS),
    "images": (COUNT, HEIGHT, WIDTH, CHANNELS),
    "videos": (COUNT, TIME, HEIGHT, WIDTH, CHANNELS),
}
PLACED = ("signals", "images", "videos")  # in which it matters where a number is


def samples(name, layout="channels_last"):
    """Random samples, whose channels stand where Keras' layers of that kind have them."""
    x = np.random.default_rng(0).random(SHAPES[name]).astype("float32") + 1
    return np.moveaxis(x, -1, 1) if layout == "channels_first" else x


def options(name, layout="channels_last"):
    return {"kind": "signal" if name == "signals" else None, "data_format": layout, "seed": 1}


def spread(values, like):
    return values.reshape(-1, *[1] * (like.ndim - 1))


# Mixing.


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("within", ["alone", "pipeline", "choice", "apply"])
def test_mix_up_blends_samples_of_any_shape_by_their_labels(name, within):
    layer = layers.MixUp(1.0, seed=1)
    layer = {
        "alone": layer,
        "pipeline": layers.Pipeline([layer]),
        "choice": layers.RandomChoice([layer, layers.MixUp(0.5)], mode="sample", seed=2),
        "apply": layers.RandomApply(layer, rate=0.7, seed=2),
    }[within]
    x = samples(name)
    mixed, labels = augment(layer, x, coded(COUNT))
    kept, given, partner = decoded(labels)
    assert (given > 0).any()
    expected = spread(kept, x) * x + spread(given, x) * x[partner]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", PLACED)
def test_cut_mix_cuts_one_box_per_sample_and_labels_by_its_share(name, layout):
    x = samples(name, layout)
    mixed, labels = augment(layers.CutMix(1.0, **options(name, layout)), x, coded(COUNT))
    _, given, partner = decoded(labels)
    cut = mixed != x
    assert_same_bits(mixed, np.where(cut, x[partner], x))
    cut = np.moveaxis(cut, 1, -1) if layout == "channels_first" else cut
    assert (cut == cut[..., :1]).all()  # all channels alike
    cut = cut[..., 0]
    if name == "videos":
        assert (cut == cut[:, :1]).all()  # all frames alike
        cut = cut[:, 0]
    np.testing.assert_allclose(cut.reshape(COUNT, -1).mean(1), given, atol=1e-6)
    if name == "signals":
        assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in cut)  # an interval
    assert len(set(given.round(3))) > 2


def test_the_length_of_a_cut_is_the_share_that_was_drawn():
    """Beta(alpha, alpha) is 1/2 for a large alpha: half of the signal, not half of its square root."""
    labels = augment(layers.CutMix(1e6, kind="signal", seed=1), np.ones((COUNT, 100, 2), "float32"), coded(COUNT))[1]
    np.testing.assert_allclose(decoded(labels)[1], 0.5, atol=0.011)


@pytest.mark.parametrize("name", PLACED)
def test_a_choice_of_mixers_is_one_of_both_for_each_sample(name):
    x = samples(name)
    layer = layers.RandomChoice([layers.MixUp(1.0), layers.CutMix(1.0)], mode="sample", **options(name))
    mixed, labels = augment(layer, x, coded(COUNT))
    kept, given, partner = decoded(labels)
    blended = spread(kept, x) * x + spread(given, x) * x[partner]
    is_blend = np.isclose(mixed, blended, rtol=1e-5).reshape(COUNT, -1).all(1)
    is_cut = ((mixed == x) | (mixed == x[partner])).reshape(COUNT, -1).all(1)
    assert (is_blend | is_cut).all() and is_blend.any() and is_cut.any()


def test_several_inputs_are_mixed_with_one_partner_and_one_weight():
    inputs = {"picture": samples("images"), "table": samples("features"), "sound": (samples("signals"),)}
    for call in (
        lambda layer: layer((inputs, coded(COUNT))),
        lambda layer: layer(inputs, coded(COUNT)),
        lambda layer: layer({"images": inputs, "labels": coded(COUNT)}).values(),
    ):
        found, labels = to_numpy(tuple(call(layers.MixUp(1.0, seed=1))))
        kept, given, partner = decoded(labels)
        assert (given > 0).any()
        keras.tree.assert_same_structure(found, inputs)
        for x, mixed in zip(keras.tree.flatten(inputs), keras.tree.flatten(found), strict=True):
            np.testing.assert_allclose(mixed, spread(kept, x) * x + spread(given, x) * x[partner], rtol=1e-5)
    symbolic = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:]), inputs)
    specs = layers.MixUp(num_classes=4)((symbolic, keras.Input((), dtype="int32")))
    keras.tree.assert_same_structure(specs[0], inputs)


# Erasing and moving.


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("fill", [(0.1, 0.2, 0.3), "channel_noise", "pixel_noise"])
@pytest.mark.parametrize("name", PLACED)
def test_erasing_fills_one_box_per_sample(name, fill, layout):
    x = samples(name, layout)
    layer = layers.RandomErasing(1.0, (0.2, 0.6), fill=fill, value_range=(0, 0.9), **options(name, layout))
    found = augment(layer, x)
    x, found = (np.moveaxis(a, 1, -1) if layout == "channels_first" else a for a in (x, found))
    erased = found != x
    assert (erased == erased[..., :1]).all()
    region = erased[..., 0]
    if name == "videos":
        assert (region == region[:, :1]).all()
        region = region[:, 0]
    share = region.reshape(COUNT, -1).mean(1)
    assert (share > 0.1).all() and (share < 0.75).all() and len(set(share.round(3))) > 2
    if name == "signals":
        assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in region)
    colours = [found[i][erased[i]].reshape(-1, CHANNELS) for i in range(COUNT)]
    if isinstance(fill, (float, tuple)):
        for colour in colours:
            np.testing.assert_allclose(colour, np.broadcast_to(np.float32(fill), colour.shape))
    elif fill == "channel_noise":  # one colour per box, the same in all frames
        assert all((colour == colour[0]).all() for colour in colours)
        assert len({tuple(colour[0]) for colour in colours}) == COUNT
    else:
        assert all(len(np.unique(colour)) == colour.size for colour in colours)


def test_the_length_of_an_interval_is_the_share_that_was_asked_for():
    """`ratio` says nothing about signals."""
    x = np.ones((4, 100, 2), "float32")
    layer = layers.RandomErasing(1.0, scale=(0.3, 0.3), ratio=(1, 1), kind="signal", seed=1)
    assert (to_numpy(layer(x)) == 0).mean((1, 2)).tolist() == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("name", PLACED)
def test_pad_crop_shifts_each_sample_as_a_whole(name, mode, layout):
    x = samples(name, layout)
    found = augment(layers.RandomPadCrop(2, fill_mode=mode, **options(name, layout)), x)
    x, found = (np.moveaxis(a, 1, -1) if layout == "channels_first" else a for a in (x, found))
    axes = {"signals": (0,), "images": (0, 1), "videos": (1, 2)}[name]
    shifts = set()
    for old, new in zip(x, found, strict=True):
        padding = [(2, 2) if axis in axes else (0, 0) for axis in range(old.ndim)]
        padded = np.pad(old, padding, mode=mode)
        matching = [
            offset
            for offset in np.ndindex(*[5] * len(axes))
            if np.array_equal(crop(padded, dict(zip(axes, offset, strict=True)), old.shape), new)
        ]
        assert matching
        shifts.update(matching)
    assert len(shifts) > 2


def crop(array, starts, shape):
    return array[tuple(slice(starts.get(axis, 0), starts.get(axis, 0) + n) for axis, n in enumerate(shape))]


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", ["signals", "videos"])
def test_masks_label_maps_and_weights_move_along(name, layout):
    x = samples(name)
    maps = (x[..., 0] * 1000).astype("int32")
    data = {
        "images": np.moveaxis(x, -1, 1) if layout == "channels_first" else x,
        "labels": np.expand_dims(maps, 1 if layout == "channels_first" else -1),
        "sample_weights": x[..., 0].copy(),
        "segmentation_masks": maps,
    }
    parts = [
        layers.RandomPadCrop(2, data_format=layout),
        layers.RandomErasing(1.0, (0.2, 0.4), mask_fill=0, data_format=layout),
    ]
    found = augment(layers.Pipeline(parts, **options(name, layout)), data)
    first = found["images"][:, 0] if layout == "channels_first" else found["images"][..., 0]
    assert 0 < (first == 0).mean() < 1
    np.testing.assert_array_equal(found["segmentation_masks"], (first * 1000).astype("int32"))
    labels = np.squeeze(found["labels"], 1 if layout == "channels_first" else -1)
    np.testing.assert_array_equal(labels, found["segmentation_masks"])
    seen = first != 0
    np.testing.assert_array_equal(found["sample_weights"][seen], first[seen])


def test_cut_mix_cuts_label_maps_of_videos_and_steps():
    for name in ("signals", "videos"):
        x = samples(name)
        maps = (x[..., :1] * 1000).astype("int32")
        mixed, labels = augment(layers.CutMix(1.0, num_classes=2001, **options(name)), x, maps)
        np.testing.assert_array_equal(labels, (mixed[..., :1] * 1000).astype("int32"))
        assert (mixed != x).any()


# Labels alone.


@pytest.mark.parametrize("name", SHAPES)
def test_label_noise_needs_no_images(name):
    x, ids = samples(name), np.arange(COUNT, dtype="int32") % 4
    expected = augment(layers.LabelNoise(1.0, 4, seed=3), samples("images"), ids)[1]
    for layer in (layers.LabelNoise(1.0, 4, seed=3), layers.Pipeline([layers.LabelNoise(1.0, 4)], seed=3)):
        found, labels = augment(layer, x, ids)
        assert_same_bits(found, x)
        assert (labels != ids).any() and labels.max() < 4
        if isinstance(layer, layers.LabelNoise):
            np.testing.assert_array_equal(labels, expected)
    (mapped,) = map_in_tf_data(layers.LabelNoise(1.0, 4, seed=3), (x, ids), batch_size=COUNT)
    assert_same_bits(mapped[0], x)
    assert (mapped[1] != ids).any() and set(mapped[1].tolist()) <= set(range(4)) and np.ptp(mapped[1])


@pytest.mark.parametrize("noisy", ["kind", ["kind", "hot"], 1, [0, 1]])
def test_label_noise_says_which_output_it_touches(noisy):
    names = ("kind", "hot", "age")
    labels = {"kind": np.arange(COUNT) % 4, "hot": np.eye(4, dtype="float32")[[0] * COUNT], "age": np.ones((COUNT, 1))}
    data = labels if isinstance(noisy, str) or isinstance(noisy[0] if isinstance(noisy, list) else noisy, str) else None
    data = tuple(labels.values()) if data is None else data
    layer = layers.LabelNoise(1.0, 4, noisy_output=noisy, seed=4)
    found = to_numpy(layer(samples("features"), data)[1])
    found = found if isinstance(found, dict) else dict(zip(names, found, strict=True))
    chosen = [names[n] if isinstance(n, int) else n for n in (noisy if isinstance(noisy, list) else [noisy])]
    for name in names:
        assert (found[name] != labels[name]).any() == (name in chosen)
    assert layers.LabelNoise.from_config(layer.get_config()).noisy_output == noisy


def test_label_noise_does_not_guess_the_output():
    labels = {"a": np.arange(COUNT) % 4, "b": np.arange(COUNT) % 4}
    for noisy in (None, "c", 0, ["a", "c"]):
        with raises_received("noisy_output", "labels=['a', 'b']"):
            layers.LabelNoise(0.5, 4, noisy_output=noisy)(samples("features"), labels)
    with raises_received("noisy_output"):
        layers.LabelNoise(0.5, 4, noisy_output=1.5)
    with raises_received("noisy_output"):
        layers.LabelNoise(0.5, 4, noisy_output=[])


# Layers of Keras.


def test_keras_image_layers_draw_once_per_clip():
    clip = np.repeat(samples("images")[:, None], TIME, axis=1) / 2  # every frame is the same
    names = ["RandomFlip", "RandomTranslation", "RandomBrightness", "RandomGrayscale", "RandomSaturation", "RandomHue"]
    arguments = {
        "RandomFlip": {}, "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
        "RandomBrightness": {"factor": 0.5, "value_range": (0, 1)}, "RandomGrayscale": {"factor": 0.5},
        "RandomSaturation": {"factor": (0.0, 1.0), "value_range": (0, 1)},
        "RandomHue": {"factor": 0.5, "value_range": (0, 1)},
    }  # fmt: skip
    for name in names:
        if not hasattr(keras.layers, name):
            continue
        layer = layers.Pipeline([getattr(keras.layers, name)(**arguments[name], seed=1, data_format="channels_last")])
        found = augment(layer, clip)
        np.testing.assert_allclose(found, np.repeat(found[:, :1], TIME, axis=1), atol=1e-6, err_msg=name)
        assert len({a.tobytes() for a in np.abs(found[:, 0] - clip[:, 0]).mean((1, 2, 3)).round(4)}) > 1, name


def test_keras_layers_that_move_pixels_move_the_masks_of_all_frames():
    x = samples("videos")
    layer = layers.Pipeline([keras.layers.RandomFlip(seed=1), keras.layers.GaussianNoise(0.0)])
    data = {"images": x, "segmentation_masks": x[..., 0].copy(), "sample_weights": x[..., 1].copy()}
    found = augment(layer, data)
    assert (found["images"] != x).any()
    assert_same_bits(found["segmentation_masks"], found["images"][..., 0])
    assert_same_bits(found["sample_weights"], found["images"][..., 1])


def test_resizing_and_colours_of_videos():
    x = np.repeat(samples("images")[:, None], TIME, axis=1)
    found = augment(layers.Pipeline([layers.RandomResizedCrop((4, 3)), layers.PCAColorJitter(1.0)], seed=1), x)
    assert found.shape == (COUNT, TIME, 4, 3, CHANNELS)
    np.testing.assert_allclose(found, np.repeat(found[:, :1], TIME, axis=1), atol=1e-5)
    assert layers.Pipeline([layers.RandomResizedCrop((4, 3))])(keras.Input(x.shape[1:])).shape == (
        None,
        TIME,
        4,
        3,
        CHANNELS,
    )
    shifts = augment(layers.PCAColorJitter(1.0, seed=1), x) - x
    assert len(np.unique(shifts[:, 0, 0, 0], axis=0)) == COUNT
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[:, :1, :1, :1], x.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "operations", "layout"),
    [
        # Their results do not depend on the other pixels of an image, or do so in the same way in all frames.
        (layers.RandAugment, ["rotate", "translate_y", "sharpness", "color", "solarize"], "channels_first"),
        (layers.AugMix, ["rotate", "brightness"], "channels_last"),
        # These look at all pixels: a video is one large image.
        (layers.TrivialAugmentWide, ["contrast", "auto_contrast", "equalize"], "channels_first"),
    ],
)
def test_policies_change_all_frames_of_a_video_alike(make, operations, layout):
    videos = np.random.default_rng(0).integers(20, 230, (4, 2, 6, 5, 3)).astype("uint8")
    masks, points = videos[..., 0] % 5, np.random.default_rng(1).uniform(0, 4, (4, 2, 3, 2)).astype("float32")
    given = np.moveaxis(videos, -1, 1) if layout == "channels_first" else videos
    data = {"images": given}
    if make is layers.RandAugment:
        data |= {"segmentation_masks": masks, "keypoints": points}
    found = augment(make(operations=operations, data_format=layout, seed=1), data, index=0)
    images = np.moveaxis(found["images"], 1, -1) if layout == "channels_first" else found["images"]
    of_images = augmenter(make(operations=operations, data_format="channels_last", seed=1), index=0)
    assert (images != videos).any((1, 2, 3, 4)).sum() > 1
    if make is layers.TrivialAugmentWide:
        expected = of_images({"images": videos.reshape(4, 12, 5, 3)})["images"]
        return assert_same_bits(images.reshape(4, 12, 5, 3), expected)
    for frame in range(2):
        part = {name: array[:, frame] for name, array in {**data, "images": videos}.items()}
        for name, expected in of_images(part).items():
            assert_same_bits((images if name == "images" else found[name])[:, frame], expected)


def test_policies_of_one_video_and_what_they_refuse():
    clip, layer = np.random.default_rng(0).random((2, 6, 5, 1)).astype("float32"), {"value_range": (0, 1)}
    for kind in ("video", None):
        found = augment(layers.RandAugment(**layer, kind=kind, seed=1), clip if kind else clip[None])
        assert found.shape == (clip.shape if kind else (1, *clip.shape))
    assert layers.AutoAugment(**layer)(keras.Input((None, 6, 5, 3))).shape == (None, None, 6, 5, 3)
    with raises_received("1 or 3 channels", "shape="):
        layers.AugMix(**layer)(np.zeros((1, 3, 6, 5, 2), "float32"))


# Where they run.


@pytest.mark.parametrize("name", SHAPES)
def test_in_the_training_step_ids_stay_terms(name):
    x, ids = samples(name), np.arange(COUNT, dtype="int32") % 4
    parts = [layers.MixUp(1.0), layers.LabelNoise(0.2, 4)]
    parts += [] if name == "features" else [layers.RandomErasing(0.5), layers.CutMix(1.0), layers.RandomPadCrop(1)]
    network = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)])
    model = RegularizedModel(network, layers.Pipeline(parts, kind="signal" if name == "signals" else None, seed=5))
    mixed, labels, _ = model.augment(x, ids)
    assert tuple(mixed.shape) == x.shape and len(labels.labels) >= 2
    assert (to_numpy(mixed) != x).reshape(COUNT, -1).any(1).all()
    np.testing.assert_allclose(to_numpy(labels.weights).sum(1), 1, rtol=1e-5)


def test_a_model_of_several_inputs_trains_on_all_of_them_mixed():
    inputs = [keras.Input((HEIGHT, WIDTH, CHANNELS), name="picture"), keras.Input((4,), name="table")]
    both = keras.layers.Concatenate()([keras.layers.Flatten()(inputs[0]), inputs[1]])
    network = keras.Model(inputs, keras.layers.Dense(4)(both))
    model = RegularizedModel(network, layers.MixUp(1.0, seed=6))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    x = {"picture": samples("images"), "table": samples("features")}
    for data in (x, list(x.values())):
        mixed, labels, _ = model.augment(data, coded(COUNT))
        kept, given, partner = decoded(to_numpy(labels.labels[0]))
        assert (given > 0).any()
        for old, new in zip(x.values(), mixed.values() if isinstance(mixed, dict) else mixed, strict=True):
            expected = spread(kept, old) * old + spread(given, old) * old[partner]
            np.testing.assert_allclose(to_numpy(new), expected, rtol=1e-5)
    assert np.isfinite(model.fit(x, np.arange(COUNT) % 4, verbose=0).history["loss"][0])
    assert np.isfinite(model.evaluate(x, np.arange(COUNT) % 4, verbose=0)[0])
    for augmentation, place in (
        (layers.CutMix(), None),
        (layers.MixUp(), "table"),
        (layers.Pipeline([layers.RandomErasing(), layers.MixUp()]), None),
    ):
        with raises_received("augmented_input", "inputs"):
            RegularizedModel(network, augmentation, augmented_input=place).augment(x, np.arange(COUNT) % 4)


def test_tf_data_with_unknown_sizes():
    for name in PLACED:
        x = samples(name)
        layer = layers.Pipeline([layers.RandomErasing(1.0, scale=(0.2, 0.5)), layers.CutMix(1.0)], **options(name))
        batches = map_in_tf_data(layer, (x, coded(COUNT)), batch_size=3)
        assert [images.shape for images, _ in batches] == [(n, *x.shape[1:]) for n in (3, 3, 2)]
        for (images, labels), given in zip(batches, (x[:3], x[3:6], x[6:]), strict=True):
            erased = images == 0
            assert 0 < erased.mean() < 0.6 and (images != given)[~erased].any()
            assert (erased | (images[:, None] == given[None]).any(1)).all()  # else from a sample of the batch
            np.testing.assert_allclose(labels.sum(1), coded(COUNT)[0].sum(), rtol=1e-6)


def test_one_sample_of_a_kind_comes_back_as_one():
    for name in PLACED:
        kind = name[:-1]
        x = samples(name)[0]
        found = augment(layers.RandomErasing(1.0, kind=kind, seed=1), x)
        assert found.shape == x.shape and (found != x).any()
    found, label = to_numpy(layers.LabelNoise(1.0, 4, seed=1)(samples("features")[0], np.int32(1)))
    assert found.shape == (4,) and label.shape == ()


# What has two readings, and what is refused.


def test_three_axes_are_never_guessed():
    signals, ids = samples("signals"), np.arange(COUNT, dtype="int32") % 4
    long = np.ones((COUNT, 50, 6), "float32")
    for layer in (
        layers.RandomErasing(),
        layers.CutMix(num_classes=4),
        layers.RandomPadCrop(1),
        layers.Pipeline([layers.RandomErasing(), layers.MixUp()]),
    ):
        for data in ((signals, ids), (signals, ids, np.ones(COUNT, "float32")), (long, ids), long):
            with raises_received('kind="signal"', "images[None]", "images[..., None]"):
                layer(data)
    for layer in (layers.RandomErasing(), layers.RandomPadCrop(1)):
        with raises_received('kind="image"', "images[None]"):
            layer(signals, np.ones(COUNT, "float32"))  # a float per sample, or one row of classes
    for data in ((signals, np.ones(COUNT, "float32")), (signals,)):
        with raises_received('kind="signal"', "images[None]"):
            layers.MixUp()(data)
        assert layers.MixUp(kind="signal")(data)[0].shape == signals.shape
    model = RegularizedModel(keras.Sequential([keras.Input((TIME, 3)), keras.layers.Flatten()]), layers.RandomErasing())
    with raises_received('kind="signal"'):
        model.augment(signals, ids)


def test_one_image_stays_one_image_for_layers_that_take_any_shape():
    """And a label of an unbatched sample is never mixed."""
    image = samples("images")[0]
    layer = layers.RandomApply(keras.layers.GaussianNoise(0.1, seed=1), rate=0.5, seed=1)
    changed = [(to_numpy(layer(image)) != image).any((1, 2)) for _ in range(8)]
    assert all(rows.all() or not rows.any() for rows in changed) and len({rows.any() for rows in changed}) == 2
    assert layers.RandomApply(keras.layers.GaussianNoise(0.1))(keras.Input((TIME, 3))).shape == (None, TIME, 3)
    unknown = keras.KerasTensor((None, None, 3))
    with raises_received('kind="signal"'):
        layers.RandomApply(keras.layers.GaussianNoise(0.1))(unknown)
    with raises_received("labels"):
        layers.MixUp(num_classes=4)(unknown, keras.KerasTensor((), "int32"))


def test_labels_alone_and_kinds_of_own_layers():
    """A subclass that changes labels takes any inputs, and one that moves pixels says what else it takes."""

    class Next(layers.BatchAugmentation):
        def transform_labels(self, labels, transformation, batch):
            return (labels + 1) % 4

    class Upside(layers.BatchAugmentation):
        kinds = ("image", "video", "signal")

        def transform_images(self, images, transformation, batch):
            return batch.ops.take(images, range(images.shape[self.spatial_axes(images)[0]])[::-1], axis=1)

    for name in SHAPES:
        x, labels = to_numpy(Next()(samples(name), np.arange(COUNT) % 4))
        assert_same_bits(x, samples(name))
        np.testing.assert_array_equal(labels, np.arange(1, COUNT + 1) % 4)
    for name in PLACED:
        axis = 2 if name == "videos" else 1
        found = to_numpy(Upside(kind="signal" if name == "signals" else None)(samples(name)))
        np.testing.assert_array_equal(found, np.flip(samples(name), axis))
    with raises_received("accepts images", "video"):
        type("Still", (layers.BatchAugmentation,), {"transform_images": lambda *a: a[1]})()(samples("videos"))


def test_a_kind_is_held_to():
    for kind, right in (("signal", "(batch, time, channels)"), ("video", "(batch, time, height, width, channels)")):
        with raises_received(right, str(SHAPES["images"])):
            layers.CutMix(num_classes=4, kind=kind)(samples("images"), np.arange(COUNT))
    with raises_received("images"):
        layers.PCAColorJitter(kind="signal")(samples("signals"))
    with raises_received("kind"):
        layers.RandomErasing(kind="sound")
    with raises_received("kind"):
        layers.Pipeline([layers.RandomErasing(kind="signal"), layers.CutMix(kind="image")])
    assert layers.Pipeline([layers.RandomErasing(kind="signal"), layers.MixUp()]).kind == "signal"
    with raises_received("padding"):
        layers.RandomPadCrop((1, 2), kind="signal")(samples("signals"))
    with raises_received("accepts images", "or videos", "signal"):
        layers.Pipeline([keras.layers.RandomFlip()], kind="signal")(samples("signals"))


def test_token_ids_are_not_blended():
    tokens, ids = np.arange(COUNT * 5).reshape(COUNT, 5), np.arange(COUNT) % 4
    with raises_received("token ids", "int", "(8, 5)"):
        layers.MixUp(num_classes=4)(tokens, ids)
    with raises_received("token ids"):
        layers.MixUp(num_classes=4)(({"tokens": tokens, "table": samples("features")}, ids))
    network = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(40, 4)])
    with raises_received("token ids"):
        RegularizedModel(network, layers.MixUp()).augment(tokens, ids)
    with raises_received("token ids"):
        layers.MixUp(num_classes=4, kind="signal")(np.ones((COUNT, 5, 2), "int32"), ids)
    grey = np.ones((COUNT, 5, 6), "uint8")
    assert layers.MixUp(num_classes=4)(grey, ids)[0].shape == grey.shape
    assert layers.LabelNoise(1.0, 4)(tokens, ids)[0].shape == tokens.shape


@pytest.mark.parametrize("name", ["signals", "videos"])
def test_blended_masks_of_signals_and_videos_are_labels(name):
    """The error says what works, and it does."""
    x = samples(name)
    ids = np.arange(x[..., 0].size).reshape(x.shape[:-1]) % 4
    mixer = layers.MixUp(num_classes=4, kind=name[:-1])
    for masks in (ids, ids[..., None], np.eye(4, dtype="float32")[ids]):
        with raises_received("as one-hot `labels`", f'kind="{name[:-1]}"', str(masks.shape)):
            mixer({"images": x, "segmentation_masks": masks})
    assert mixer(x, masks)[1].shape == masks.shape


def test_integer_masks_of_steps_need_an_axis_where_a_mixer_may_blend_them():
    x, ids = samples("signals"), np.arange(COUNT * TIME).reshape(COUNT, TIME) % 4
    mixers = [layers.MixUp(num_classes=4, kind="signal"), layers.CutMix(num_classes=4, kind="signal")]
    for layer in (layers.RandomChoice(mixers), layers.RandomChoice(mixers, mode="sample")):
        with raises_received("(batch, time, 1)", str(ids.shape)):
            layer({"images": x, "segmentation_masks": ids})
        masks = to_numpy(layer({"images": x, "segmentation_masks": ids[..., None]})["segmentation_masks"])
        assert masks.shape == (COUNT, TIME, 4) and np.allclose(masks.sum(-1), 1)


@pytest.mark.parametrize("shape", [(COUNT, 5), (COUNT, 5, 2)])
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    "around",
    [
        lambda part, mixer: layers.Pipeline([part, mixer]),
        lambda part, mixer: layers.Pipeline([layers.LabelNoise(0.5, 4), layers.Pipeline([mixer, part])]),
        lambda part, mixer: layers.RandomChoice([part, mixer]),
        lambda part, mixer: layers.RandomChoice([mixer, mixer], mode="sample"),
        lambda part, mixer: layers.Pipeline([layers.RandomApply(part), mixer]),
    ],
)
def test_token_ids_are_not_blended_by_layers_that_contain_others(around, noise, shape):
    """These layers cast integers to floats before the first part, if any part computes with floats."""
    tokens, ids = np.ones(shape, "int32"), np.arange(COUNT) % 4
    kind = "signal" if len(shape) == 3 else None
    mixer = layers.MixUp(num_classes=4, kind=kind)
    part = layers.RandomGaussianNoise(0.5, kind=kind) if noise and len(shape) == 2 else mixer
    layer = around(part, mixer)
    with raises_received("token ids", "int32", str(shape)):
        layer(tokens, ids)
    with raises_received("token ids", "int32", str(shape)):
        layer({"images": tokens, "labels": ids})
    network = keras.Sequential([keras.Input(shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)])
    with raises_received("token ids", "int32", str(shape)):
        RegularizedModel(network, layer).augment(tokens, ids)


def test_labels_that_may_be_of_steps_or_of_samples_are_refused():
    with raises_received("(batch, time, 1)"):
        layers.CutMix(num_classes=TIME, kind="signal")(samples("signals"), np.ones((COUNT, TIME), "float32"))
    boxes = {"boxes": np.ones((COUNT, 1, 4), "float32"), "classes": np.ones((COUNT, 1), "int32")}
    for name in ("signals", "videos"):
        with raises_received("boxes"):
            layers.RandomErasing(1.0, **options(name))({"images": samples(name), "bounding_boxes": boxes})

"""What was measured to go wrong elsewhere, row by row, and how it goes here."""

import keras
import numpy as np
import pytest
from harness import dtype_of, jit, only, raises_received, to_numpy
from layers.batches import assert_same_bits, augment, coded, decoded, numbered
from layers.policies import expected, photo
from scipy import stats

from keras_reg.layers import (
    AugMix,
    AutoAugment,
    CutMix,
    MixUp,
    Pipeline,
    RandAugment,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomSharpness,
)
from keras_reg.losses import LabelSmoothingCrossentropy

MIXERS = pytest.mark.parametrize("mixer", [MixUp, CutMix])


@pytest.fixture
def half(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


def test_cut_mix_label_weight_is_the_share_of_pixels_kept():
    """Keras: off by 0.011 to 0.024 on average at 32 x 32, since its boxes are floats."""
    images = numbered(500, 32, 32)
    result, labels = to_numpy(CutMix(1.0, seed=1)(images, coded(500)))
    share = (result == images).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(decoded(labels)[0], share, rtol=0, atol=2e-7)


@MIXERS
def test_mixers_work_under_mixed_float16(mixer, half):
    """Keras on PyTorch: "dirichlet not implemented for Half"."""
    images, _ = mixer(seed=1)(numbered(8), coded(8))
    assert dtype_of(images) == "float16" and np.isfinite(to_numpy(images)).all()


@MIXERS
def test_labels_stay_float32_under_mixed_float16(mixer, half):
    """Keras on TensorFlow and JAX: float16."""
    assert dtype_of(mixer(seed=1)(numbered(8), coded(8))[1]) == "float32"
    assert dtype_of(mixer(num_classes=8, seed=1)(numbered(8), np.arange(8))[1]) == "float32"


@only("tensorflow")
@MIXERS
def test_mixers_compile_under_xla(mixer):
    """Keras: its gamma sampler does not compile."""
    layer = mixer(0.2, seed=1)
    images, labels = jit(lambda x, y: layer(x, y), layer, xla=True)(numbered(8), coded(8))
    assert np.isfinite(to_numpy(images)).all() and (decoded(to_numpy(labels))[0] <= 1).all()


@MIXERS
def test_integer_labels_of_one_dimension_are_no_matrix_of_nonsense(mixer):
    """Keras on JAX and PyTorch: a (B, B) matrix without a word."""
    ids = np.array([2, 0, 1, 2, 1, 0])
    with raises_received("num_classes"):
        mixer()(numbered(6), ids)
    labels = to_numpy(mixer(num_classes=3, seed=1)(numbered(6), ids)[1])
    assert labels.shape == (6, 3)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert (labels[np.arange(6), ids] > 0).all() or isinstance(mixer(), CutMix)


@MIXERS
def test_segmentation_masks_keep_their_shape(mixer):
    """Keras' MixUp: (8, 32, 32, 1) becomes (8, 32, 32, 8)."""
    masks = np.random.default_rng(0).random((8, 32, 32, 1), "float32")
    found = mixer(seed=1)({"images": masks, "segmentation_masks": masks})
    assert tuple(found["segmentation_masks"].shape) == (8, 32, 32, 1)
    np.testing.assert_allclose(to_numpy(found["segmentation_masks"]), to_numpy(found["images"]), rtol=1e-5, atol=1e-6)


@MIXERS
def test_labels_of_rank_four_are_mixed(mixer):
    """Keras: a crash."""
    maps = np.random.default_rng(0).random((8, 16, 12, 3), "float32")
    images, labels = to_numpy(mixer(seed=1)(maps, maps))
    np.testing.assert_allclose(labels, images, rtol=1e-5, atol=1e-6)


def test_random_erasing_erases_the_share_that_was_asked_for():
    """Keras at 0.75: 36 to 39 %. Its sides are drawn each alone; here the aspect is one number in `ratio`."""
    images = np.ones((8000, 16, 16, 1), "uint8")
    result = to_numpy(RandomErasing(0.75, (0.1, 0.3), (1, 1), seed=1)(images))
    erased = result[..., 0] == 0
    hit = erased.any(axis=(1, 2))
    assert stats.binomtest(int(hit.sum()), 8000, 0.75).pvalue > 1e-4
    np.testing.assert_array_equal(erased.any(axis=1).sum(axis=1), erased.any(axis=2).sum(axis=1))


def test_random_erasing_needs_no_value_range_and_fills_with_what_was_asked_for():
    """Keras needs a range and fills by default with what is about half black and one sixth saturated."""
    images = np.full((50, 8, 8, 3), 5.0, "float32")
    assert set(np.unique(to_numpy(RandomErasing(1.0, seed=1)(images)))) == {0.0, 5.0}
    assert set(np.unique(to_numpy(RandomErasing(1.0, fill=2, seed=1)(images)))) == {2.0, 5.0}


@MIXERS
def test_mixers_take_tuples_and_sample_weights(mixer):
    """Keras' take dicts of images and labels alone."""
    weights = np.arange(8, dtype="float32")
    _, labels, mixed = mixer(1.0, seed=1)((numbered(8), coded(8), weights))
    kept, given, partner = decoded(to_numpy(labels))
    np.testing.assert_allclose(to_numpy(mixed), kept * weights + given * weights[partner], rtol=1e-5, atol=1e-6)


@MIXERS
def test_one_image_without_a_batch_is_refused_not_passed_unmixed(mixer):
    with raises_received("(4, 4, 1)"):
        mixer()(numbered(1)[0], np.float32([1.0]))


@MIXERS
def test_a_dict_is_not_changed(mixer):
    """Keras': changed in place."""
    images, labels = numbered(8), coded(8)
    data = {"images": images, "labels": labels}
    found = mixer(seed=1)(data)
    assert found is not data and data["images"] is images and data["labels"] is labels
    np.testing.assert_array_equal(images, numbered(8))


def test_sparse_labels_are_smoothed():
    """Keras: `SparseCategoricalCrossentropy` has no `label_smoothing` before the version that announces it."""
    ids, logits = np.array([1, 0, 2]), np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    oracle = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    found = LabelSmoothingCrossentropy(0.1, from_logits=True)(ids, logits)
    expected = oracle(np.eye(4, dtype="float32")[ids], logits)
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-5)


@pytest.mark.parametrize("selected", [0, 3])
def test_probability_acts_on_each_image_not_on_the_batch(selected):
    """Keras-aug: the whole batch or nothing."""
    images = np.ones((16, 6, 6, 1), "float32")
    hits = {
        (to_numpy(RandomErasing(0.5, seed=seed)(images)) == 0).any(axis=(1, 2, 3)).sum()
        for seed in range(selected, selected + 3)
    }
    assert hits - {0, 16}


def test_numpy_arrays_are_mixed_on_every_backend():
    """KerasCV's MixUp raises on NumPy input on TensorFlow."""
    images, labels = MixUp(seed=1)(numbered(8), coded(8))
    assert keras.ops.is_tensor(images) and keras.ops.is_tensor(labels)


# Geometry, colors and policies.


def test_rand_augment_draws_operations_for_each_image_in_both_directions():
    """Keras: one sequence of operations per batch; rotations turn one way, and images only become brighter."""
    images = np.repeat(photo(5, 7)[None], 64, axis=0)
    found = augment(RandAugment(1, 15, operations=["rotate", "brightness"], seed=1), images)
    assert found.dtype == "uint8"  # Keras: floats
    counts = {image.tobytes(): [] for image in found}
    for image in found:
        counts[image.tobytes()].append(image)
    assert len(counts) == 4 and min(map(len, counts.values())) > 5
    # The turned images have pixels from outside.
    blended = sorted(same[0].mean() for same in counts.values() if (same[0] > 0).all())
    assert len(blended) == 2 and blended[0] < images.mean() < blended[1]


def test_histograms_are_those_of_each_channel_of_each_image():
    """Keras: one histogram per batch; `AutoContrast` of images with channels first reduces other axes."""
    images = np.stack([photo(6, 5, seed=seed) // (seed + 1) for seed in range(3)])
    first = np.moveaxis(images, -1, 1)
    policy = [[("invert", 1.0, None), ("equalize", 1.0, None)]]
    found = augment(AutoAugment(policy, data_format="channels_first"), first)
    for image, result in zip(images, np.moveaxis(found, 1, -1), strict=True):
        assert_same_bits(result, expected("equalize", 0, 255 - image)[0])
    found = augment(RandAugment(1, operations=["auto_contrast"], data_format="channels_first"), first)
    assert (found.min((2, 3)) == 0).all() and (found.max((2, 3)) >= 254).all()
    assert (found.min((1, 2)) > 0).any()


def test_inverting_keeps_the_range():
    """Keras subtracts from the upper end of the range, whatever its lower end is."""
    images = np.linspace(-1, 1, 96, dtype="float32").reshape(2, 4, 4, 3)
    found = augment(RandAugment(1, operations=["invert"], value_range=(-1, 1)), images)
    np.testing.assert_allclose(found, -images, atol=1e-6)


def test_aug_mix_follows_its_seed_and_draws_in_each_compiled_call():
    """Keras draws operations with Python's generator: once per trace, whatever the seed is."""
    images = np.repeat(photo(4, 5)[None], 4, axis=0)

    def calls(seed):
        layer = AugMix(width=1, depth=1, operations=["brightness", "invert"], seed=seed)
        call = jit(lambda x: layer(x), layer)
        return [np.array(to_numpy(call(images))) for _ in range(2)]

    (first, second), again = calls(1), calls(1)
    assert (first != second).any() and len({image.tobytes() for image in first}) == 4
    assert_same_bits(again[0], first)
    assert_same_bits(again[1], second)


@pytest.mark.parametrize("key", ["segmentation_masks", "bounding_boxes"])
def test_aug_mix_refuses_what_it_cannot_mix(key):
    """Keras blends the class ids of masks, and leaves boxes where they were."""
    boxes = {"boxes": np.ones((1, 1, 4), "float32"), "classes": np.ones((1, 1))}
    value = boxes if key == "bounding_boxes" else np.ones((1, 6, 5), "int32")
    with raises_received("`AugMix` cannot move"):
        AugMix()({"images": np.ones((1, 6, 5, 3), "uint8"), key: value})


def test_masks_boxes_and_keypoints_follow_the_pixels():
    """Keras on PyTorch turns masks otherwise than images. torchvision turns points around another center.

    A flip and a turn of 180 degrees, whose image is the mirror image from below.
    """
    images = np.arange(40, dtype="uint8").reshape(2, 4, 5, 1)
    data = {"images": images, "segmentation_masks": images[..., 0].astype("int32")}
    data["bounding_boxes"] = {"boxes": np.float32([[[1, 0, 3, 1]]] * 2), "classes": np.int32([[7]] * 2)}
    data["keypoints"] = np.float32([[[0, 0], [4, 1]]] * 2)
    found = augment(Pipeline([RandomFlip(rate=1.0), RandomAffine((180, 180), interpolation="nearest")]), data)
    assert_same_bits(found["images"], images[:, ::-1])
    assert_same_bits(found["segmentation_masks"], data["segmentation_masks"][:, ::-1])
    assert found["bounding_boxes"]["boxes"].tolist() == [[[1, 3, 3, 4]]] * 2
    np.testing.assert_allclose(found["keypoints"], [[[0, 3], [4, 2]]] * 2, atol=1e-5)


def test_masks_follow_the_operations_of_a_policy():
    """torchvision's policies: TypeError. Keras': masks are sampled by another rule than images."""
    images = photo(9, 7, channels=1)[None].repeat(3, axis=0)
    layer = RandAugment(2, 25, operations=["rotate", "shear_x", "translate_y"], seed=2)
    found = augment(layer, {"images": images, "segmentation_masks": images[..., 0].astype("int32")})
    assert (found["images"] != images).any()
    assert_same_bits(found["segmentation_masks"], found["images"][..., 0].astype("int32"))


def test_white_stays_white():
    """Keras pads with black to blur and to sharpen, so that borders darken. torchvision's gray of white is 254."""
    layer = Pipeline([RandomGaussianBlur(2.0, rate=1.0), RandomSharpness((-0.9, -0.5)), RandomGrayscale(1.0)], seed=1)
    white = np.full((2, 6, 5, 3), 255, "uint8")
    assert_same_bits(augment(layer, white), white)


@only("tensorflow")
def test_rotations_compile_under_xla():
    """Keras: `RandomRotation` has no kernel for XLA on GPUs."""
    layer, images = RandomAffine(30, seed=1), np.ones((2, 6, 5, 3), "float32")
    assert np.isfinite(to_numpy(jit(lambda x: layer(x), layer, xla=True)(images))).all()

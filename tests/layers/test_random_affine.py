import keras
import numpy as np
import pytest
from harness import import_torchvision, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter, box_formats, boxes_of
from scipy import stats

from keras_reg.layers import RandomAffine

LAYOUTS = {"channels_last": (0, 1, 2, 3), "channels_first": (0, 3, 1, 2)}
RANGES = {"rotation": 40, "translation": 0.2, "zoom": (-0.3, 0.5), "shear": 0.3}


def photos(count, height=11, width=8, channels=3, dtype="float32", seed=0):
    images = np.random.default_rng(seed).random((count, height, width, channels)) * 255
    return np.round(images).astype(dtype) if dtype != "float32" else images.astype(dtype)


def addressed(count, height=11, width=8):
    """The columns and rows of all pixels, as two channels."""
    rows, columns = np.mgrid[:height, :width]
    return np.repeat(np.stack([columns, rows], -1)[None], count, axis=0).astype("float32")


def sources_of(count, height=11, width=8, **options):
    """(x, y) from where each pixel comes, each (count, height, width) float64: affine maps fitted to what is seen.

    A slope is interpolated exactly, so that the pixels inside tell the map of an image. The fill is so large that a
    trace of it shows.
    """
    layer = RandomAffine(**options, fill_value=1e6)
    found = augment(layer, addressed(count, height, width), index=0).astype("float64")
    rows, columns = np.mgrid[:height, :width]
    grid = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3).astype("float64")
    sources = []
    for image in found.reshape(count, -1, 2):
        inside = (image < [width - 1 + 1e-3, height - 1 + 1e-3]).all(-1)
        assert inside.sum() > 5
        sources.append(grid @ np.linalg.lstsq(grid[inside], image[inside], rcond=None)[0])
    return np.moveaxis(np.stack(sources).reshape(count, height, width, 2), -1, 0)


def pixels_at(image, rows, columns, fill):
    """`image` at whole positions, or `fill`."""
    height, width = image.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    found = image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside.reshape(*inside.shape, *[1] * (image.ndim - 2)), found, fill)


def bilinear(image, x, y, fill):
    """In float64, from the definition."""
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = ((p - n)[..., None] for p, n in ((x, left), (y, top)))
    found = 0.0
    for rows, weight_of_row in ((top, 1 - down), (top + 1, down)):
        for columns, weight in ((left, 1 - across), (left + 1, across)):
            found = found + weight_of_row * weight * pixels_at(image.astype("float64"), rows, columns, fill)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_bilinear_interpolation_is_that_of_numpy(dtype, layout):
    images = photos(12, dtype=dtype)
    options = {**RANGES, "seed": 1}
    found = augment(
        RandomAffine(**options, fill_value=7, data_format=layout), images.transpose(LAYOUTS[layout]), index=0
    )
    assert found.dtype == dtype
    x, y = sources_of(12, **options)
    expected = np.stack([bilinear(*one, 7.0) for one in zip(images, x, y, strict=True)])
    found = found if layout == "channels_last" else found.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=0.501 if dtype == "uint8" else 0.02)
    assert (found != images).any((1, 2, 3)).all()


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_masks_label_maps_and_weights_take_the_nearest_pixel(shape):
    """Exactly, wherever the position is more than 1e-3 of a pixel from a tie."""
    images, count = photos(12), 12
    masks = np.random.default_rng(1).integers(1, 200, (count, 11, 8, *shape)).astype("int32")
    masks[0, 5] = 255
    options = {**RANGES, "seed": 2}
    layer = RandomAffine(**options, mask_fill=-5)
    data = {"images": images, "labels": np.atleast_3d(masks), "segmentation_masks": masks}
    weights = masks.reshape(count, 11, 8, -1)[..., 0].astype("float32")
    found = augment(layer, {**data, "sample_weights": weights}, index=0)
    x, y = sources_of(count, **options)
    clear = np.all([np.abs(p - np.floor(p) - 0.5) > 1e-3 for p in (x, y)], axis=0)
    assert clear.mean() > 0.98
    columns, rows = (np.round(p).astype(int) for p in (x, y))
    for key, given, fill in (("segmentation_masks", masks, -5), ("labels", masks, -5), ("sample_weights", weights, 0)):
        expected = np.stack([pixels_at(*one, fill) for one in zip(given, rows, columns, strict=True)])
        assert found[key].dtype == given.dtype and (expected == fill).any()
        np.testing.assert_array_equal(found[key][clear], expected[clear])
    nearest = augment(RandomAffine(**options, interpolation="nearest", fill_value=3), images, index=0)
    expected = np.stack([pixels_at(*one, np.float32(3)) for one in zip(images, rows, columns, strict=True)])
    assert_same_bits(nearest[clear], expected[clear])


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_quarter_turns_only_move_pixels(interpolation, turns):
    images = photos(2, 7, 7)
    images[0, 2, 3] = np.nan
    images[1, 4, 1:3] = [[3e38], [-3e38]]  # of which the difference is infinite
    layer = RandomAffine(rotation=(90 * turns, 90 * turns), interpolation=interpolation)
    assert_same_bits(augment(layer, images), np.ascontiguousarray(np.rot90(images, turns, (1, 2))))
    oblong = photos(1, 6, 8, dtype="uint8")
    found, turned = augment(layer, oblong)[0], np.rot90(oblong, turns, (1, 2))[0]
    if turns % 2 == 0:
        assert_same_bits(found, np.ascontiguousarray(turned))
    else:  # the middle is the same, and columns beside the image are empty
        assert_same_bits(found[:, 1:7], np.ascontiguousarray(turned[1:7]))
        assert not found[:, [0, 7]].any()


@pytest.mark.parametrize("mode", ["constant", "reflect", "nearest"])
@pytest.mark.parametrize("size", [1, 2, 3, 12, 13, 14, 28, 29, 30, 61, 224])
def test_quarter_turns_of_all_sizes_keep_the_bits(size, mode):
    """Positions are whole numbers, however an operation scales them by the size."""
    images = photos(2, size, size, seed=size) / 7
    found = augment(RandomAffine(rotation=(90, 90), fill_mode=mode, fill_value=1e6), images)
    assert_same_bits(found, np.ascontiguousarray(np.rot90(images, 1, (1, 2))))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
def test_shifts_only_move_pixels(dtype):
    images = photos(40, 10, 8, dtype=dtype)
    if dtype == "int32":
        images += 2**30  # which float32 does not hold
    found = augment(RandomAffine(translation=0.4, fill_value=1, seed=3), images)
    padded = np.pad(images, ((0, 0), (4, 4), (3, 3), (0, 0)), constant_values=1)
    seen = set()
    for old, new in zip(padded, found, strict=True):
        shifts = [s for s in np.ndindex(9, 7) if (old[s[0] : s[0] + 10, s[1] : s[1] + 8] == new).all()]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) > 15


def test_signs_of_the_arguments():
    """A bright pixel up right of the center of a large image, and where it goes."""
    image = np.zeros((1, 101, 101, 1), "float32")
    image[0, 40, 70] = 1  # 20 right and 10 up

    def place(**options):
        found = augment(RandomAffine(**options), image)[0, :, :, 0]
        row, column = np.unravel_index(found.argmax(), found.shape)
        return int(column) - 50, 50 - int(row)

    assert place() == (20, 10)
    assert place(rotation=(90, 90)) == (-10, 20)  # counterclockwise
    assert place(translation=(0.1, 0.1)) == (30, 0)  # right and down
    assert place(zoom=(1, 1)) == (40, 20) and place(zoom=(-0.5, -0.5)) == (10, 5)
    # Across first: rows below the center go right; then down: columns right of the center go down.
    assert place(shear=(0.4, 0.4)) == (16, 4)  # 20 - 4, and 10 - 6.4


def test_numbers_are_uniform_in_their_ranges():
    """Angle, enlargement and shears, from the map of each image; and shifts."""
    x, y = sources_of(300, rotation=(10, 30), seed=4)
    angles = np.degrees(np.arctan2((y[:, 0, 1] - y[:, 0, 0]), x[:, 0, 1] - x[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(10, 20).cdf).pvalue > LEAST_P
    x, _ = sources_of(300, zoom=0.5, seed=5)
    assert stats.kstest(1 / (x[:, 0, 1] - x[:, 0, 0]), stats.uniform(0.5, 1).cdf).pvalue > LEAST_P
    x, y = sources_of(300, shear=(-0.1, 0.3), seed=6)
    down = -(y[:, 0, 1] - y[:, 0, 0])
    across = -(x[:, 1, 0] - x[:, 0, 0])
    for shears in (down, across):
        assert stats.kstest(shears, stats.uniform(-0.1, 0.4).cdf).pvalue > LEAST_P
    assert abs(stats.spearmanr(down, across).statistic) < 0.25
    x, y = sources_of(600, 12, 12, translation=0.25, seed=7)
    for shifts in (x[:, 0, 0], y[:, 0, 0]):  # -3 to 3, of which the ends have half a pixel less
        counts = np.bincount(np.round(shifts).astype(int) + 3, minlength=7)
        assert stats.chisquare(counts, 100 * np.array([0.5, 1, 1, 1, 1, 1, 0.5])).pvalue > LEAST_P


def test_images_that_are_not_chosen_keep_their_bits():
    images = photos(400, 5, 4)
    images[::7, 2, 2] = np.nan
    found = augment(RandomAffine(**RANGES, rate=0.4, seed=8), images)
    kept = np.array([a.tobytes() == b.tobytes() for a, b in zip(found, images, strict=True)])
    assert stats.binomtest(int(kept.sum()), 400, 0.6).pvalue > LEAST_P


def test_the_result_of_an_image_does_not_depend_on_the_other_images():
    images = photos(6)
    layer, others = RandomAffine(**RANGES, seed=9), images.copy()
    others[1:] = np.nan
    assert_same_bits(augment(layer, others, index=0)[0], augment(layer, images, index=0)[0])
    same = augment(layer, np.repeat(images[:1], 6, 0), index=0)
    assert_same_bits(same[0], augment(layer, images, index=0)[0])
    assert len({image.tobytes() for image in same}) == 6
    order = [0, 2, 1, 3, 5, 4]  # 0 and 3 keep their places
    permuted, found = augment(layer, images[order], index=0), augment(layer, images, index=0)
    assert_same_bits(permuted[[0, 3]], found[[0, 3]])
    assert (permuted[1] != found[2]).any()  # the numbers belong to the place in the batch


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
def test_the_image_goes_on_beyond_its_border(mode):
    """The same map on an image that is padded so far that its own border is not seen."""
    images, margin = photos(8, 8, 8), 24
    around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = np.pad(images, around, "edge" if mode == "nearest" else "reflect")
    options = {"rotation": 90, "zoom": (-0.5, 0.2), "shear": 0.3, "seed": 10}
    found = augment(RandomAffine(**options, fill_mode=mode), images, index=0)
    whole = augment(RandomAffine(**options), padded, index=0)
    np.testing.assert_allclose(found, whole[:, margin:-margin, margin:-margin], atol=0.02)
    shifted = augment(RandomAffine(translation=1.0, fill_mode=mode, seed=11), photos(20, 4, 1), index=0)
    assert np.isin(shifted, photos(20, 4, 1)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_frames_of_a_video_move_alike(layout):
    videos = photos(12).reshape(3, 4, 11, 8, 3)
    given = videos if layout == "channels_last" else np.moveaxis(videos, -1, 1)
    found = augment(RandomAffine(**RANGES, seed=12, data_format=layout), given, index=0)
    found = found if layout == "channels_last" else np.moveaxis(found, 1, -1)
    call = augmenter(RandomAffine(**RANGES, seed=12), index=0)
    for frame in range(4):
        np.testing.assert_allclose(found[:, frame], call(videos[:, frame].copy()), atol=1e-4)


FORMATS = box_formats(60, 80)


def moved_corners(corners, count, **options):
    """The upright hull, (left, top, right, bottom), of four corners that move by the map that the pixels tell."""
    x, y = sources_of(count, 60, 80, **options)
    left, top, right, bottom = (edge - 0.5 for edge in corners)
    found = []
    for xs, ys in zip(x, y, strict=True):
        matrix = [[p[0, 1] - p[0, 0], p[1, 0] - p[0, 0]] for p in (xs, ys)]
        away = np.array([(a - xs[0, 0], b - ys[0, 0]) for a in (left, right) for b in (top, bottom)])
        placed = np.linalg.solve(matrix, away.T).T + 0.5
        found.append([*placed.min(0), *placed.max(0)])
    return np.array(found)


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_are_the_smallest_around_the_moved_ones_and_clipped(box_format):
    count, corners = 40, (50.0, 20.0, 70.0, 45.0)
    boxes = np.tile(np.array([FORMATS[box_format](*corners), [-1] * 4], "float32"), (count, 1, 1))
    images = np.zeros((count, 60, 80, 1), "float32")
    data = {"images": images, "bounding_boxes": {"boxes": boxes, "classes": np.tile([3, -1], (count, 1))}}
    options = {"rotation": 60, "translation": 0.6, "zoom": 0.4, "shear": 0.3, "rate": 0.8, "seed": 13}
    found = augment(RandomAffine(**options, bounding_box_format=box_format), data, index=0)["bounding_boxes"]
    hull = np.clip(moved_corners(corners, count, **options), 0, [80, 60, 80, 60])
    left = ((hull[:, 2:] - hull[:, :2]) > 0.01).all(1)
    assert 0.5 < left.mean() < 1
    np.testing.assert_array_equal(found["classes"], np.stack([np.where(left, 3, -1), np.full(count, -1)], -1))
    assert (found["boxes"][found["classes"] == -1] == -1).all()
    expected = np.stack(FORMATS[box_format](*hull[left].T), -1)
    np.testing.assert_allclose(found["boxes"][left, 0], expected, atol=1e-3)


def test_keypoints_follow_the_map():
    """To 1e-3 of a pixel. Those that leave the picture are absent."""
    count, rng = 40, np.random.default_rng(0)
    points = (rng.random((count, 9, 2)) * [79, 59]).astype("float32")
    options = {"rotation": 60, "translation": 0.4, "zoom": 0.4, "shear": 0.3, "rate": 0.8, "seed": 13}
    data = {"images": np.zeros((count, 60, 80, 1), "float32"), "keypoints": points}
    found = augment(RandomAffine(**options), data, index=0)["keypoints"]
    x, y = sources_of(count, 60, 80, **options)
    for xs, ys, old, new in zip(x, y, points, found, strict=True):
        matrix = [[p[0, 1] - p[0, 0], p[1, 0] - p[0, 0]] for p in (xs, ys)]
        placed = np.linalg.solve(matrix, (old - [xs[0, 0], ys[0, 0]]).T).T
        margin = np.min([placed + 0.5, [79.5, 59.5] - placed], axis=(0, 2))
        assert (np.abs(margin) > 1e-3).all()
        np.testing.assert_allclose(new, np.where(margin[:, None] > 0, placed, -1), atol=1e-3)
    assert 0.2 < (found == -1).mean() < 0.8


def test_boxes_of_quarter_turns_and_shifts_are_exact():
    images = np.zeros((1, 9, 9, 1), "float32")
    images[0, 1:4, 5:9] = 1
    boxes = {"boxes": np.array([[[5.0, 1, 9, 4]]], "float32"), "classes": np.array([[2]])}
    for options in ({"rotation": (90, 90)}, {"rotation": (180, 180)}, {"translation": (-1 / 3, -1 / 3)}):
        result = augment(RandomAffine(**options), {"images": images, "bounding_boxes": boxes})
        top, left, tall, wide = (side[0] for side in boxes_of(result["images"][..., 0] > 0))
        assert result["bounding_boxes"]["boxes"][0, 0].tolist() == [left, top, left + wide, top + tall]
    still = augment(RandomAffine(**RANGES, rate=0.0), {"images": images, "bounding_boxes": boxes})["bounding_boxes"]
    assert_same_bits(still["boxes"], boxes["boxes"])


@only("torch")
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_it_is_the_affine_transformation_of_torchvision(interpolation):
    """Its angles are clockwise, its shears are negative angles. Bilinear within one level, nearest but for ties."""
    import torch

    functional = import_torchvision().transforms.v2.functional
    images = photos(1, 40, 56, dtype="uint8", seed=2)
    image = torch.from_numpy(images[0]).permute(2, 0, 1)
    rng = np.random.default_rng(3)
    for _ in range(12):
        angle, zoom, shear = rng.uniform(-180, 180), rng.uniform(-0.4, 0.6), rng.uniform(-0.3, 0.3)
        shift = rng.integers(-4, 5) / 8
        layer = RandomAffine(*((value, value) for value in (angle, shift, zoom, shear)), interpolation=interpolation)
        expected = functional.affine(
            image, -angle, [56 * shift, 40 * shift], 1 + zoom, [-float(np.degrees(np.arctan(shear)))] * 2,
            interpolation=functional.InterpolationMode(interpolation),
        )  # fmt: skip
        found, expected = to_numpy(layer(images))[0].astype(int), expected.permute(1, 2, 0).numpy().astype(int)
        if interpolation == "bilinear":
            assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.98
        else:
            assert (found == expected).all(-1).mean() > 0.998


@pytest.mark.parametrize("value", [0.5, 300, -1])
def test_integers_refuse_a_fill_that_they_cannot_hold(value):
    images = np.ones((2, 4, 4, 3), "uint8")
    with raises_received("fill_value"):
        RandomAffine(10, fill_value=value)(images)
    RandomAffine(10, fill_value=value, fill_mode="reflect")(keras.KerasTensor(images.shape, "uint8"))
    with raises_received("mask_fill"):
        RandomAffine(10, mask_fill=value)({"images": images, "segmentation_masks": images[..., 0]})

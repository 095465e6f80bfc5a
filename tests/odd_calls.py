"""Odd calls of every layer and loss: refused by name, or what a float64 reference gives for the same draw."""

import keras
import numpy as np
import odd_references as reference
import odd_values as odd
from odd_arguments import judge_error
from odd_references import CLASSES, FILL, MASK_FILL, PADDING, close, kind, real

from keras_reg import layers

HEIGHT, WIDTH = odd.HEIGHT, odd.WIDTH


def pad_crop(**options):
    return layers.RandomPadCrop(PADDING, fill_value=FILL, mask_fill=MASK_FILL, seed=1, **options)


# Each augmentation as one whose draw can be found in its result, and what finds it.
AUGMENTATIONS = {
    "MixUp": (lambda: layers.MixUp(1.0, num_classes=CLASSES, seed=1), reference.Blended),
    "CutMix": (lambda: layers.CutMix(1.0, num_classes=CLASSES, seed=1), reference.Cut),
    "RandomErasing": (
        lambda: layers.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(1, 1), fill=FILL, mask_fill=MASK_FILL, seed=1),
        reference.Erased,
    ),
    "RandomAffine": (
        lambda: layers.RandomAffine(rotation=(180, 180), fill_value=FILL, mask_fill=MASK_FILL, seed=1),
        reference.Turned,
    ),
    "RandomFlip": (lambda: layers.RandomFlip(rate=1.0, seed=1), reference.Mirrored),
    "ColorJitter": (lambda: layers.ColorJitter(brightness=(0, 0), value_range=(0, 1), seed=1), reference.Same),
    "RandomGrayscale": (lambda: layers.RandomGrayscale(rate=1.0, seed=1), reference.Gray),
    "RandomSharpness": (lambda: layers.RandomSharpness((0, 0), value_range=(0, 1), seed=1), reference.Same),
    "RandomGaussianBlur": (lambda: layers.RandomGaussianBlur(0, rate=1.0, seed=1), reference.Same),
    "RandomGaussianNoise": (lambda: layers.RandomGaussianNoise(0, 1.0, seed=1), reference.Same),
    "RandomPadCrop": (pad_crop, reference.Shifted),
    "RandomResizedCrop": (
        lambda: layers.RandomResizedCrop((HEIGHT, WIDTH), (1.0, 1.0), (WIDTH / HEIGHT, WIDTH / HEIGHT), seed=1),
        reference.Same,
    ),
    "PCAColorJitter": (lambda: layers.PCAColorJitter(0.5, seed=1), reference.Tinted),
    "LabelNoise": (lambda: layers.LabelNoise(1.0, num_classes=CLASSES, seed=1), reference.Same),
    "Pipeline": (lambda: layers.Pipeline([pad_crop()], seed=1), reference.Shifted),
    "RandomChoice": (lambda: layers.RandomChoice([pad_crop(), pad_crop()], seed=1), reference.Shifted),
    "RandomApply": (lambda: layers.RandomApply(pad_crop(), rate=1.0, seed=1), reference.Shifted),
}
MIXERS = ("MixUp", "CutMix")
FILLING = ("RandomErasing", "PCAColorJitter", "RandomPadCrop", "Pipeline", "RandomChoice", "RandomApply")
ANY_RANK = ("MixUp", "LabelNoise", "RandomGaussianNoise")  # which take inputs of any shape, and several
TINTING = ("ColorJitter", "PCAColorJitter", "RandomGrayscale")
# Which masks and boxes pass, whatever they are.
UNMOVED = (*TINTING, "RandomSharpness", "RandomGaussianBlur", "RandomGaussianNoise", "LabelNoise")
MOVERS = ("RandomAffine", "RandomFlip", "RandomPadCrop", "Pipeline", "RandomChoice", "RandomApply")
SLOTS = {
    "images": odd.IMAGES, "data": odd.FORMS, "labels": odd.LABELS, "sample_weights": odd.WEIGHTS,
    "segmentation_masks": odd.MASKS, "bounding_boxes": odd.BOXES, "index": odd.INDEX, "training": odd.TRAINING,
}  # fmt: skip
NAMES = {
    "images": ("images", "data", "fill=", "fill_value", "`scale`"),
    "data": ("images", "data", "labels", "sample_weight", "keys", "keypoints"),
    "labels": ("labels", "fill=", "fill_value", "num_classes", "boxes"),
    "sample_weights": ("sample_weight",),
    "segmentation_masks": ("mask", "fill=", "fill_value"),
    "bounding_boxes": ("box",),
    "index": ("index",),
    "training": ("training",),
}


def trials(name):
    return [(slot, expression) for slot, expressions in SLOTS.items() for expression in expressions]


def try_call(name, slot, expression):
    """What became of one call: "refused", "equal", or what is wrong."""
    make, finder = AUGMENTATIONS[name]
    given = odd.value_of(expression)
    try:
        result = CALLS[slot](make(), name, given)
    except Exception as error:
        return judge_error(error, *NAMES[slot])
    return CHECKS[slot](name, finder, odd.value_of(expression), result, expression) or "equal"


def _call_images(layer, name, images):
    b = odd.batch()
    if name not in (*MIXERS, "LabelNoise"):
        return layer(images)
    count = len(images) if hasattr(images, "__len__") and np.ndim(images) else odd.COUNT
    return layer(images, b["y"][: min(count, odd.COUNT)])


def _call_dict(key):
    def call(layer, name, value):
        b = odd.batch()
        return layer({"images": b["x"], "labels": b["y"], key: value})

    return call


CALLS = {
    "images": _call_images,
    "data": lambda layer, name, data: layer(data),
    "labels": lambda layer, name, labels: layer(odd.batch()["x"], labels),
    "sample_weights": lambda layer, name, weights: layer(odd.batch()["x"], odd.batch()["y"], weights),
    "segmentation_masks": _call_dict("segmentation_masks"),
    "bounding_boxes": _call_dict("bounding_boxes"),
    "index": lambda layer, name, index: layer(odd.batch()["x"], odd.batch()["y"], index=index),
    "training": lambda layer, name, training: layer(odd.batch()["x"], odd.batch()["y"], training=training),
}


# What came, beside what should have come. Each returns `None` or what is wrong.


def _check_images(name, finder, images, result, expression):
    before = real(images)
    after, labels = (real(result[0]), result[1]) if isinstance(result, tuple) else (real(result), None)
    least, most = (1, 9) if name in ANY_RANK else (3, 5)
    if before is None or not least <= before.ndim <= most:
        return "taken as images"
    if name == "LabelNoise":
        return None if close(after, before) else "other images"
    if before.ndim == 3 and name not in ANY_RANK:
        before, after = before[None], after[None]
    if before.ndim == 5 and name not in ANY_RANK:
        before, after = (_frames_in_one_image(name, array) for array in (before, after))
    return None if explains(name, finder, before, after, labels) else f"another result: {after.ravel()[:6]!s}"


def _frames_in_one_image(name, videos):
    """A draw is one per clip: frames become channels, or rows where colors are changed."""
    batch, time, height, width, channels = videos.shape
    if name in TINTING:
        return videos.reshape(batch, time * height, width, channels)
    return np.moveaxis(videos, 1, 3).reshape(batch, height, width, time * channels)


def explains(name, finder, before, after, labels):
    if before.shape != after.shape:
        return name == "RandomResizedCrop" and after.shape == (len(before), HEIGHT, WIDTH, before.shape[-1])
    found = finder(before, after, labels) if before.size else reference.Same(before, after)
    if name == "RandomResizedCrop":  # which is a product with matrices, along rows and along columns
        clean = np.broadcast_to(np.isfinite(before).all((1, 2), keepdims=True), before.shape)
        before, after = (np.where(clean, a, 0) for a in (before, after))
    return found.explains(before, after) if name == "CutMix" and before.size else close(after, found.pixels(before))


def _found(name, finder, images):
    return finder(real(odd.batch()["x"]), real(images))


def _check_data(name, finder, data, result, expression):
    if expression in ("pil()", "(pil(),1)"):  # one black image
        return (
            None if not real(result if expression == "pil()" else result[0]).any() or name in FILLING else "not black"
        )
    legal = LEGAL | NESTED if name in ANY_RANK else LEGAL
    if expression not in legal or (name == "LabelNoise" and "y" not in expression):
        return "taken as a batch"
    if "[:2]" in expression:  # two small batches: images, and labels that are images
        return None
    parts = list(result.values()) if isinstance(result, dict) else list(result)
    images = keras.tree.flatten(parts[0])[0] if expression in NESTED else parts[0]
    found = _found(name, finder, images)
    if not close(images, found.pixels(real(odd.batch()["x"]))):
        return "other images"
    if isinstance(result, dict) and "segmentation_mask" in result and name in (*MOVERS, "RandomResizedCrop"):
        return "`segmentation_mask` passed unmoved"
    if isinstance(result, dict) and "keypoints" in result and name in MOVERS:
        return "`keypoints` passed unmoved" if close(real(result["keypoints"]), real(data["keypoints"])) else None
    return None


LEGAL = {
    "[x]", "(x,)", "(x,None)", "(x,y)", "[x,y]", "(x,y,None)", "(x,y,w)", "[x,y,w]", "Triple(x,y,w)", "{'images':x}",
    "{'images':x,'labels':y}", "{'images':x,'labels':y,'sample_weights':w}", "OrderedDict(images=x,labels=y)",
    "{'images':x,'labels':None}", "[x,x]", "[x[:2],x[2:]]", "list(x[:2])", "(x,[None]*4)", "{'images':x,'label':y}",
    "[x.tolist(),y.tolist()]", "(x.tolist(),y)", "{'images':x,'labels':y,'label':y}",
    "{'images':x,'labels':y,'sample_weight':w}", "{'images':x,'labels':y,'weights':w}",
    "{'images':x,'labels':y,'image_id':y}", "{'images':x,'labels':y,1:y}",
    "{'images':x,'labels':y,'segmentation_mask':m}", "{'images':x,'labels':y,'keypoints':x[:,:2,:2,0]}",
    "{'images':x,'labels':y,'path':np.array(list('abcd'))}", "{'images':x,'labels':y,'note':'text'}",
    "{'images':x,'labels':y,'nothing':None}",
}  # fmt: skip

NESTED = {"[[x]]", "{'images':[x],'labels':y}", "{'images':{'a':x},'labels':y}"}  # several inputs


def _check_labels(name, finder, labels, result, expression):
    if labels is None:
        return None
    found = _found(name, finder, result[0])
    return _fault_of_labels(name, found, labels, result[1], expression)


def _fault_of_labels(name, found, labels, result, expression):
    if isinstance(labels, dict):
        if "boxes" in labels:
            return _fault_of_boxes(name, found, labels, result)
        return next(filter(None, (_fault_of_labels(name, found, v, result[k], "") for k, v in labels.items())), None)
    if labels is None:
        return None if result is None else "labels from nothing"
    if isinstance(labels, (list, tuple)) and not isinstance(next(iter(labels), None), (int, float, list)):
        return next(
            filter(None, (_fault_of_labels(name, found, a, b, "") for a, b in zip(labels, result, strict=True))), None
        )
    given = real(labels)
    if given is None or given.ndim == 0 or len(given) != odd.COUNT:
        return "taken as labels"
    expected = _expected_labels(name, found, given, kind(labels))
    if expected is None:
        return "ids out of range taken"
    if name == "LabelNoise":
        return None if _is_redrawn(real(result), given) else f"other labels: {real(result).tolist()}"
    return None if close(result, expected) else f"other labels: {real(result).ravel()[:8]!s}"


def _expected_labels(name, found, given, dtype_kind):
    if given.ndim >= 3 and given.shape[1:3] == (HEIGHT, WIDTH):
        return found.maps(given, dtype_kind in "iub")
    one_each = given.ndim == 1 or (given.ndim == 2 and given.shape[1] == 1)
    if one_each and dtype_kind in "iu" and name in (*MIXERS, "LabelNoise"):
        if not ((given >= 0) & (given < CLASSES)).all():
            return None
        given = np.eye(CLASSES)[given.reshape(-1).astype(int)] if name in MIXERS else given
    return found.labels(given)


def _is_redrawn(result, given):
    """Class ids in range or rows of one-hot labels, in the shape of what was given."""
    if result.shape != given.shape:
        return False
    rows = result if result.ndim == 2 and result.shape[1] > 1 else None
    return (
        ((result >= 0) & (result < CLASSES)).all()
        if rows is None
        else ((rows.sum(-1) == 1) & (rows.max(-1) == 1)).all()
    )


def _check_weights(name, finder, weights, result, expression):
    if weights is None:
        return None
    given = real(weights)
    if isinstance(weights, (list, dict)) and expression not in ("w.tolist()", "[10**400]*4"):
        return None if expression in ("[w]", "{'a':w}", "[None]*4", "[]", "{}") else "taken as weights"
    if given is None or given.ndim == 0 or len(given) != odd.COUNT:
        return "taken as weights"
    found = _found(name, finder, result[0])
    of_pixels = given.ndim >= 3 and given.shape[1:3] == (HEIGHT, WIDTH)
    expected = found.pixel_weights(given) if of_pixels else found.labels(given)
    return None if close(result[2], expected) else f"other weights: {real(result[2]).ravel()[:4]!s}"


def _check_masks(name, finder, mask, result, expression):
    given = real(mask)
    if name in UNMOVED:
        return None
    if given is None or given.ndim not in (3, 4) or given.shape[:3] != (odd.COUNT, HEIGHT, WIDTH):
        return "taken as masks"
    found = _found(name, finder, result["images"])
    expected = found.maps(given, kind(mask) in "iub")
    return None if close(result["segmentation_masks"], expected) else "another mask"


def _check_boxes(name, finder, boxes, result, expression):
    if name in UNMOVED:
        return None
    return _fault_of_boxes(name, _found(name, finder, result["images"]), boxes, result["bounding_boxes"])


def _fault_of_boxes(name, found, given, result):
    if not isinstance(given, dict) or real(given.get("boxes", "")) is None or real(given["boxes"]).shape[-1] != 4:
        return "taken as boxes"
    if any(real(part) is None for part in given.values()):
        return "taken as boxes"
    if not isinstance(found, reference.Shifted):
        return None
    before, after = real(given["boxes"]), real(result["boxes"])
    offset = np.array([[s[1] - PADDING[1], s[0] - PADDING[0]] * 2 for s in found.shifts], "float64")[:, None]
    expected = np.clip(before - offset, 0, [WIDTH, HEIGHT] * 2)
    classes = real(result.get("classes", result.get("labels")))
    kept = classes.reshape(classes.shape[:2]) != -1
    return None if np.allclose(after[kept], expected[kept], atol=1e-4, equal_nan=True) else "other boxes"


def _check_index(name, finder, index, result, expression):
    if index is None:
        return None
    value = np.asarray(index if not reference.keras_is_tensor(index) else keras.ops.convert_to_numpy(index))
    if value.dtype.kind not in "iu" or value.size != 1 or isinstance(index, (bool, list, tuple)) or value.item() < 0:
        return None if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else "taken as an index"
    again = CALLS["index"](AUGMENTATIONS[name][0](), name, int(value.item()))
    return None if all(map(np.array_equal, map(real, again), map(real, result))) else "another draw than its integer"


def _check_training(name, finder, training, result, expression):
    changed = not close(result[0], real(odd.batch()["x"])) if name != "LabelNoise" else None
    if expression in ("None", "True", "1", "np.True_"):
        return None
    if expression not in ("False", "0", "np.False_", "np.array(False)"):
        return "taken as a flag"
    return "augments" if changed else None


CHECKS = {
    "images": _check_images, "data": _check_data, "labels": _check_labels, "sample_weights": _check_weights,
    "segmentation_masks": _check_masks, "bounding_boxes": _check_boxes, "index": _check_index,
    "training": _check_training,
}  # fmt: skip

"""Finds the input that an augmentation takes among those of a model, and puts it back."""

import keras

from keras_reg._validation import fail


def find_images(x, model, augmentation, augmented_input, mixes_inside=False):
    """Returns (the place of the images in x, the images). The place is `None` if x itself is the images.

    With `mixes_inside`, mixers leave all inputs as they are.
    """
    if not isinstance(x, (dict, list, tuple)):
        names = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
        keys = list(model.input) if isinstance(model, keras.Function) and isinstance(model.input, dict) else []
        if augmented_input is not None and len(names) == 1 and augmented_input not in (0, *names, *keys):
            fail("`augmented_input` must be the name or the position of one of the inputs.",
                 augmented_input=augmented_input, inputs=keys or names)  # fmt: skip
        return None, x
    places = list(x) if isinstance(x, dict) else list(range(len(x)))
    takes_all = augmentation is not None and augmentation._any_rank  # inputs of any shape
    mixes = augmentation is not None and augmentation._mixes and not mixes_inside
    if len(places) > 1 and mixes and (augmented_input is not None or not takes_all):
        fail(
            "Samples must be mixed as a whole. With several inputs, use mixers that take inputs of any shape, such "
            "as `MixUp`, without `augmented_input`. To augment one input and mix all, pass `mix_at` too.",
            augmented_input=augmented_input,
            inputs=places,
        )
    if len(places) > 1 and takes_all and augmented_input is None:
        return None, x
    place = places[0] if augmented_input is None and len(places) == 1 else augmented_input
    names = [tensor.name for tensor in getattr(model, "inputs", ())]
    if isinstance(place, str) and not isinstance(x, dict) and place in names:
        place = names.index(place)
    if place not in places:
        fail(
            "`augmented_input` must be the name or the position of one of the inputs.",
            augmented_input=augmented_input,
            inputs=places,
        )
    return place, x[place]


def put_images(x, place, images):
    """Returns the inputs with other images at the place that `find_images` has returned."""
    if place is None:
        return images
    if isinstance(x, dict):
        return {**x, place: images}
    parts = [*x[:place], images, *x[place + 1 :]]
    return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)

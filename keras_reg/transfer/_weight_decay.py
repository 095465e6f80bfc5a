"""What the user of an optimizer has excluded from its weight decay."""

from keras_reg._validation import fail


def excluded_from_weight_decay(optimizer, weights):
    """Those of `weights` that the optimizer, no wrapper, does not decay."""
    # Keras takes what is excluded by a public method and has none that tells it. It is in no config and no file, and
    # only a step shows it, for which the optimizer would have to be built for these weights. So Keras' own question is
    # asked; a version without it must not decay in silence what the user has excluded.
    decays = getattr(optimizer, "_use_weight_decay", None)
    if decays is None:
        if getattr(optimizer, "weight_decay", None) is not None:
            message = "This version of Keras does not tell what is excluded from weight decay: leave it out."
            fail(f"`optimizer` must be without `weight_decay`. {message}", weight_decay=optimizer.weight_decay)
        return []
    # Answers are kept by `id`, which another weight has when this one is gone.
    vars(optimizer).pop("_exclude_from_weight_decay_cache", None)
    excluded = [weight for weight in weights if not decays(weight)]
    vars(optimizer).pop("_exclude_from_weight_decay_cache", None)
    return excluded

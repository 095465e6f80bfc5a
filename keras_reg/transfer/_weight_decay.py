"""Which weights the user has excluded from the weight decay of an optimizer."""

from keras_reg._validation import fail


def excluded_from_weight_decay(optimizer, weights):
    """Returns those of `weights` that the optimizer, which is not a wrapper, does not decay."""
    # Keras has a public method to exclude weights, but none to ask which are excluded: neither configs nor files have
    # it. Only a training step on these very weights would show it, with slots built for all of them. Hence this private
    # method. If a version of Keras does not have it, an error is better than decaying what the user has excluded.
    decays = getattr(optimizer, "_use_weight_decay", None)
    if decays is None:
        if getattr(optimizer, "weight_decay", None) is not None:
            fail(
                "`optimizer` must not have a `weight_decay`: this version of Keras does not tell which weights are "
                "excluded from it.",
                weight_decay=optimizer.weight_decay,
            )
        return []
    # Keras caches the answers by `id`, which a new weight may share with a deleted one.
    vars(optimizer).pop("_exclude_from_weight_decay_cache", None)
    excluded = [weight for weight in weights if not decays(weight)]
    vars(optimizer).pop("_exclude_from_weight_decay_cache", None)
    return excluded

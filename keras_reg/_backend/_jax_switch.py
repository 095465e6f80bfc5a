"""Ways for a program of JAX to skip the branches of `Place.switch` that an image does not need."""

from keras_reg._backend._place import for_one


def one_by_one(which, branches, images, *parameters):
    """Runs one image after another, and for each image only its branch. This is for a CPU."""
    import jax

    functions = for_one(branches)

    def step(image, arrays):
        number, *given = arrays
        return jax.lax.switch(number + 1, functions, image, *given), None

    def changed(arrays):
        image, *steps = arrays
        return jax.lax.scan(step, image, steps)[0]

    return jax.lax.map(changed, (images, which, *parameters))


def in_groups(chosen, branch, size, images, *parameters):
    """Applies a branch to the chosen images, a few at a time, for an accelerator. The other images stay.

    The device finds out how many rounds are needed. JAX cannot differentiate such a loop, so that derivatives are taken
    of the branch for all images.

    Args:
        chosen: Which images to change, bools (batch,).
        branch: A function of images and parameters, (n, ...).
        size: How many images to change at a time.
        images: The images, (batch, ...).
        *parameters: Arrays (batch,).
    """
    import jax

    numpy, count = jax.numpy, len(images)
    (found,) = numpy.nonzero(chosen, size=count, fill_value=count)
    order = numpy.pad(found, (0, size), constant_values=count)  # `count` is no image and is dropped

    @jax.custom_jvp
    def changed(images, *parameters):
        def change(state):
            start, images = state
            some = jax.lax.dynamic_slice(order, (start,), (size,))
            new = branch(*(array.at[some].get(mode="clip") for array in (images, *parameters)))
            return start + size, images.at[some].set(new, mode="drop")

        return jax.lax.while_loop(lambda state: state[0] < chosen.sum(), change, (0, images))[1]

    def for_all(images, *parameters):
        shape = (count,) + (1,) * (images.ndim - 1)
        return numpy.where(chosen.reshape(shape), branch(images, *parameters), images)

    changed.defjvp(lambda values, tangents: jax.jvp(for_all, values, tangents))
    return changed(images, *parameters)

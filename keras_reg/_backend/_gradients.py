"""Gradients of further passes of the network, and passes without gradients."""

import contextlib

from keras_reg._backend._current import BACKEND


def gradients_at(function, values):
    """Returns the gradients of the scalar `function(values)` at these tensors, with `None` where it does not depend."""
    if BACKEND == "jax":
        import jax

        return jax.grad(function)(values)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            result = function(values)
        return [dense(gradient) for gradient in tape.gradient(result, values)]
    import torch

    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in values]
        return list(torch.autograd.grad(function(leaves), leaves, allow_unused=True))


def dense(gradient):
    """Returns a gradient as one tensor. TensorFlow has the gradients of embeddings as slices."""
    if BACKEND != "tensorflow" or gradient is None:
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def no_gradients():
    """Returns a context in which PyTorch keeps nothing for a backward pass. On other backends, nothing does."""
    if BACKEND != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()

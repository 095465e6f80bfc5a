"""Cross-entropy with a hand-written gradient."""

import functools
import itertools
import sys

import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND, is_compiling

PART = 2**20  # the number of logits that PyTorch processes at a time if no gradient is needed


def fused_crossentropy(logits, ids, share, floor, total):
    """Computes total * logsumexp(z) - share * z_y - sum_k floor_k z_k for each row z of `logits`, where y is its id.

    The gradient, total * softmax(z) - share * onehot(y) - floor, is written by hand. This saves several passes of
    automatic differentiation over arrays as large as the logits. Returns `None` if a compiler does equally well.

    Args:
        logits: Float tensor (..., classes).
        ids: Integer tensor (...), all in range.
        share, total: A number or a tensor (...).
        floor: `None`, a number, or a tensor (classes,).
    """
    if BACKEND == "tensorflow":
        return _tensorflow_crossentropy(logits, ids, share, floor, total)
    if BACKEND == "torch" and not is_compiling():
        arguments = logits, ids.long().unsqueeze(-1), share, floor, total
        if logits.requires_grad and sys.modules["torch"].is_grad_enabled():
            return _torch_crossentropy().apply(*arguments)[0]
        return _torch_values(*arguments)
    return None


def times(weight, x):
    """Returns `weight * x`, where 0 times infinity is 0: entries with zero weight may be infinite.

    A `weight` that is a plain number must not be 0.
    """
    return weight * ops.where(weight == 0, 0.0, x) if len(np.shape(weight)) else weight * x


def weighted_sum(x, weight, sum_over):
    """Returns the weighted sum over the last axis. `weight` is a number or a vector along this axis."""
    return sum_over(times(weight, x), -1) if len(np.shape(weight)) else weight * sum_over(x, -1)


def _tensorflow_crossentropy(logits, ids, share, floor, total):
    tf = sys.modules["tensorflow"]
    shape = tf.shape(ids)

    def flat(x):
        return x if isinstance(x, float) else tf.reshape(x, [-1])

    ids, share, total = flat(ids), flat(share), flat(total)

    @tf.custom_gradient
    def crossentropy(z):
        z = z - tf.reduce_max(z, axis=-1, keepdims=True)
        losses = -times(share, tf.gather(z, ids, batch_dims=1))
        if floor is not None:
            losses -= weighted_sum(z, floor, tf.reduce_sum)
        # Only one array of the size of the logits is alive at a time: the exponentials are computed after the last
        # operation that reads z. XLA ignores control dependencies, so `nothing`, which XLA does not know to be 0,
        # makes the exponentials depend on the losses.
        nothing = 0.0 * tf.cast(tf.math.is_nan(losses), z.dtype)
        with tf.control_dependencies([losses]):
            exps = tf.exp(z + nothing[:, None])
        sums = tf.reduce_sum(exps, axis=-1)

        def gradient(upstream):
            found = exps * (upstream * total / sums)[:, None]
            if floor is not None:
                found -= upstream[:, None] * floor
            where = tf.stack([tf.range(tf.shape(ids)[0], dtype=ids.dtype), ids], axis=-1)
            return tf.tensor_scatter_nd_sub(found, where, upstream * share)

        return losses + total * tf.math.log(sums), gradient

    return tf.reshape(crossentropy(tf.reshape(logits, [-1, tf.shape(logits)[-1]])), shape)


def _torch_terms(logits, ids, share, floor, total):
    """Returns the losses, the exponentials of all logits, and their sums.

    `torch.log_softmax` adds the exponentials in SIMD lanes, whose number depends on the processor, and loses small
    ones.
    """
    exps = logits - logits.amax(-1, keepdim=True)
    losses = -times(share, exps.gather(-1, ids).squeeze(-1))
    if floor is not None:
        losses -= weighted_sum(exps, floor, sys.modules["torch"].sum)
    sums = exps.exp_().sum(-1)
    return losses + total * sums.log(), exps, sums


def _torch_values(logits, ids, share, floor, total):
    """Returns the losses if no gradient is needed.

    They are computed for a few rows at a time, so that the exponentials stay in the cache. Each row is computed as it
    would be for the whole array, so the values are identical to the bit.
    """
    torch = sys.modules["torch"]
    if logits.ndim < 2 or logits.numel() <= PART:
        return _torch_terms(logits, ids, share, floor, total)[0]
    rows = max(PART * len(logits) // logits.numel(), 1)
    share, total = (x.split(rows) if isinstance(x, torch.Tensor) else itertools.repeat(x) for x in (share, total))
    parts = zip(logits.split(rows), ids.split(rows), share, total, strict=False)
    return torch.cat([_torch_terms(z, own, a, floor, b)[0] for z, own, a, b in parts])


@functools.cache
def _torch_crossentropy():
    torch = sys.modules["torch"]

    class Crossentropy(torch.autograd.Function):
        """The fused cross-entropy and its gradient.

        Only one array of the size of the logits is allocated. It holds the exponentials, and the backward pass turns
        them into the gradient in place. Allocating memory costs more here than the arithmetic.
        """

        generate_vmap_rule = True

        @staticmethod
        def forward(logits, ids, share, floor, total):
            return _torch_terms(logits, ids, share, floor, total)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[:2])
            ctx.numbers, (_, ctx.exps, ctx.sums) = inputs[2:], output
            ctx.mark_non_differentiable(*output[1:])
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, upstream, *_):
            logits, ids = ctx.saved_tensors
            share, floor, total = ctx.numbers
            spent = -(upstream * share).unsqueeze(-1)
            if torch.is_grad_enabled():  # a second derivative is needed
                found = torch.softmax(logits, -1) * (upstream * total).unsqueeze(-1)
                found = found if floor is None else found - upstream.unsqueeze(-1) * floor
                return found.scatter_add(-1, ids, spent), None, None, None, None
            # The first backward pass consumes the exponentials. Another pass over a retained graph recomputes them.
            exps, ctx.exps = ctx.exps, None
            exps = (logits - logits.amax(-1, keepdim=True)).exp_() if exps is None else exps
            exps *= (upstream * total / ctx.sums).unsqueeze(-1)
            if floor is not None:
                exps -= upstream.unsqueeze(-1) * floor
            return exps.scatter_add_(-1, ids, spent), None, None, None, None

    return Crossentropy

"""Milliseconds and peak memory of label smoothing with class ids, forward and backward.

    KERAS_BACKEND=jax python examples/benchmarks/bench_losses.py [--quick] [--json FILE]

Beside `keras_reg`: the backend's plain sparse crossentropy, which does not smooth, and one-hot targets with Keras'
`CategoricalCrossentropy(label_smoothing=0.1)`. All of them compiled where the backend compiles: `tf.function` (without
and with XLA), `jax.jit`, PyTorch eager. The calls take turns, so that a busy moment of the machine hits all alike.
"""

import argparse

import keras
import numpy as np
from bench_memory import peak_bytes, reset_peak
from benchmarking import BACKEND, by_turns, number_of, parse, parser, save, verdict
from keras import ops

import keras_reg

SMOOTHING = 0.1
SHAPES = [(1024, 32768), (65536, 1000)]
QUICK_SHAPES = [(128, 32768), (4096, 1000)]
XLA = "keras_reg with XLA"


def plain(ids, logits):
    """The sparse crossentropy that a user of the backend alone would write, in its fastest form."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits))
    if BACKEND == "torch":
        import torch

        return torch.nn.functional.cross_entropy(logits, ids)
    import jax
    import jax.numpy as jnp

    logs = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(logs, ids[:, None], axis=-1))


def optax_form(ids, logits):
    """As in `optax.softmax_cross_entropy_with_integer_labels`."""
    import jax.numpy as jnp
    from jax.lax import stop_gradient

    logits = logits - stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    own = jnp.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]
    return jnp.mean(jnp.log(jnp.sum(jnp.exp(logits), axis=-1)) - own)


def native(ids, logits):
    """PyTorch's own label smoothing."""
    import torch

    return torch.nn.functional.cross_entropy(logits, ids, label_smoothing=SMOOTHING)


def one_hot(ids, logits):
    targets = ops.one_hot(ids, logits.shape[-1])
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING)(targets, logits)


def contenders():
    ours = keras_reg.losses.LabelSmoothingCrossentropy(SMOOTHING, from_logits=True)
    found = {"keras_reg": ours, "plain": plain, "one-hot": one_hot}
    extra = {"tensorflow": {XLA: ours}, "jax": {"optax's form": optax_form}, "torch": {"torch's own": native}}
    return found | extra[BACKEND]


def step(loss, xla=False):
    """A function of (ids, logits) that computes the loss and its gradient, and returns when both are there."""
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(loss, argnums=1))
        return lambda ids, logits: jax.block_until_ready(compiled(ids, logits))
    if BACKEND == "torch":

        def run(ids, logits):
            logits.grad = None
            loss(ids, logits).backward()

        return run
    import tensorflow as tf

    @tf.function(jit_compile=xla)
    def compiled(ids, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(ids, logits)
        return value, tape.gradient(value, logits)

    return lambda ids, logits: compiled(ids, logits)[1][0, 0].numpy()


def batch(shape):
    rng = np.random.default_rng(0)
    ids = ops.convert_to_tensor(rng.integers(0, shape[1], shape[0]))
    logits = ops.convert_to_tensor(3 * rng.standard_normal(shape, "float32"))
    return ids, logits.requires_grad_() if BACKEND == "torch" else logits


def milliseconds(shape, rounds):
    inputs = batch(shape)
    steps = {name: step(loss, xla=name == XLA) for name, loss in contenders().items()}
    return by_turns({name: lambda run=run: run(*inputs) for name, run in steps.items()}, 0, rounds)


def peak_of(name, shape):
    """The peak memory that one step adds, in arrays of the size of the logits. Runs in a process of its own."""
    run, inputs = step(contenders()[name], xla=name == XLA), batch(shape)
    run(*batch((8, shape[1])))  # imports, thread pools and small buffers
    before = reset_peak()
    run(*inputs)
    return (peak_bytes() - before) / (4 * shape[0] * shape[1])


def peak(name, shape):
    return number_of(__file__, "--peak", name, *shape)


def targets(results):
    ours = [row for row in results if row["loss"].startswith("keras_reg")]
    shown = [("x".join(map(str, row["shape"])) + f", {row['loss']}", row) for row in ours]
    print(f"\nTargets of the loss on {BACKEND}")
    times = [(name, row["to_plain"], 1.15) for name, row in shown]
    plain = {tuple(row["shape"]): row["peak_in_logits"] for row in results if row["loss"] == "plain"}
    memory = [
        (name, row["peak_in_logits"], plain[tuple(row["shape"])] + 0.1)
        for name, row in shown
        if row["peak_in_logits"] is not None
    ]
    return [
        verdict("at most 1.15 of the plain sparse crossentropy", times),
        verdict("no array of one-hot size beyond what the plain one makes (0.1 of one for noise)", memory),
    ]


def main(argv=None, shapes=None):
    made = parser(__doc__)
    made.add_argument("--repeats", type=int, help="timed calls of each (default 25, quick 5)")
    made.add_argument("--no-memory", action="store_true", help="leave out peak memory (a new process for each)")
    made.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    given = parse(made, argv)
    if given.peak:
        name, *shape = given.peak
        print(peak_of(name, tuple(map(int, shape))))
        return None
    results = []
    print(f"\nLabel smoothing on {BACKEND}, class ids, float32: forward and backward")
    print(f"{'logits':>14}  {'loss':<20}{'ms':>9}{'to plain':>10}{'to one-hot':>12}{'peak memory':>13}")
    for shape in shapes or (QUICK_SHAPES if given.quick else SHAPES):
        found = milliseconds(shape, given.repeats or (5 if given.quick else 25))
        for name, ms in found.items():
            memory = None if given.no_memory else peak(name, shape)
            row = {"shape": shape, "loss": name, "ms": ms, "peak_in_logits": memory}
            results.append(row | {"to_plain": ms / found["plain"], "to_one_hot": ms / found["one-hot"]})
            print(
                f"{'x'.join(map(str, shape)):>14}  {name:<20}{ms:>9.1f}{ms / found['plain']:>10.2f}"
                f"{ms / found['one-hot']:>12.2f}{'' if memory is None else f'{memory:.1f}':>13}",
                flush=True,
            )
    print("Peak memory: what one call adds, in arrays of the size of the logits; the gradient itself is one of them.")
    save(given.json, "losses", results, given.quick, targets(results))
    return results


if __name__ == "__main__":
    main()

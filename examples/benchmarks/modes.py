"""What runs, and how on each backend: eagerly or compiled, as functions without arguments that wait for the result."""

import dataclasses
import functools
from collections.abc import Callable

import keras
from benchmarking import BACKEND

MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "jit"),
    "torch": ("eager", "compile"),
}[BACKEND]
COMPILED = ("graph", "xla", "jit", "compile")


@dataclasses.dataclass
class Contender:
    """One way to do a piece of work: `run(*data)`."""

    who: str
    run: Callable
    layers: tuple = ()  # Keras layers whose seeds a compiled step of JAX carries along
    first: bool = False  # wants images of (batch, channels, height, width)
    ids: bool = False  # wants integer labels
    modes: tuple = MODES  # those it is made for

    def call(self, mode, data, times=1):
        """The work in this mode on these tensors, `times` over, as a function without arguments that then waits."""
        run = globals()[f"_{BACKEND}_{mode}"](self)
        wait = globals()[f"_{BACKEND}_wait"]

        def call():
            for _ in range(times):
                results = run(*data)
            wait(results)

        return call


def in_turn(who, *chain):
    """Layers of Keras' form, one after the other, as one contender."""

    def run(images, labels):
        batch = {"images": images, "labels": labels}
        for layer in chain:
            batch = layer(batch, training=True)
        return batch["images"], batch["labels"]

    return Contender(who, run, chain)


def forget():
    """Before another row: PyTorch falls back to eager where one piece of code is compiled for the ninth time."""
    if BACKEND == "torch":
        import torch

        torch.compiler.reset()


def _tensorflow_wait(results):
    import tensorflow as tf

    for result in tf.nest.flatten(results)[-1:]:
        tf.reshape(result, [-1])[:1].numpy()


def _jax_wait(results):
    import jax

    jax.block_until_ready(results)


def _torch_wait(results):
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _eager(contender):
    return contender.run


_tensorflow_eager = _jax_eager = _torch_eager = _eager


def _tensorflow_graph(contender, **kwargs):
    import tensorflow as tf

    return tf.function(contender.run, **kwargs)


_tensorflow_xla = functools.partial(_tensorflow_graph, jit_compile=True)


def _torch_compile(contender):
    import torch

    return torch.compile(contender.run, dynamic=False)


def _jax_jit(contender):
    step, state = jax_step(contender.run, contender.layers)

    def once(*data):
        nonlocal state
        results, state = step(state, *data)
        return results, state

    return once


def jax_step(run, layers):
    """`run` as a compiled step of JAX has it, (state, *data) -> (results, state), and the first state."""
    import jax

    variables = list({id(v): v for layer in layers for v in layer.variables}.values())

    @jax.jit
    def step(state, *data):
        with keras.StatelessScope(state_mapping=list(zip(variables, state, strict=True))) as scope:
            results = run(*data)
        moved = [scope.get_current_value(v) for v in variables]
        return results, [old if new is None else new for old, new in zip(state, moved, strict=True)]

    return step, [v.value for v in variables]

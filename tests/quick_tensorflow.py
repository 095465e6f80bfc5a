"""Sets TensorFlow up to spend less time on graphs that run only a few times, and none on waiting.

`tests/test_contract.py`, the notebooks and the quickstart run graphs that are optimized, as users have them.

The thread that tunes a `tf.data` pipeline sleeps for as long as it has run so far, up to a minute. An iterator that is
deleted before its end, as after an error in the middle of an epoch, often waits until that thread wakes up. Three such
tests slept through four minutes.
"""


def set_up():
    import tensorflow as tf

    optimize_graphs(False)
    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    iterate = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda dataset: iterate(dataset.with_options(untuned))


def optimize_graphs(on):
    """Optimizing takes a seventh of a run."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not on})

"""Sets TensorFlow up so that the end of an iterator does not hold up the tests.

The thread that tunes a `tf.data` pipeline sleeps for as long as it has run so far, up to a minute. An iterator that is
deleted before its end, as after an error in the middle of an epoch, often waits until that thread wakes up. Three such
tests slept through four minutes.
"""


def set_up():
    import tensorflow as tf

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    iterate = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda dataset: iterate(dataset.with_options(untuned))

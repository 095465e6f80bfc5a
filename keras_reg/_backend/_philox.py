"""The random state that TensorFlow's compiled code draws from."""

_STEP = 256  # the amount by which TensorFlow advances the counter of a Philox generator for each draw


class PhiloxState:
    """Counts the draws of compiled code. No two draws get the same key, even in parallel calls or on replicas."""

    def __init__(self, entropy):
        import tensorflow as tf

        with tf.init_scope():
            self._state = tf.Variable(
                tf.constant([0, 0, entropy], tf.int64),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def key(self):
        """Returns the next key.

        The counter is read and advanced under one lock. With `assign_add`, parallel calls could read the same value.
        The state includes the entropy, so that compiled code follows when the source moves to another stream.
        """
        import tensorflow as tf

        state = tf.raw_ops.RngReadAndSkip(
            resource=self._state.handle, alg=tf.constant(1, tf.int32), delta=tf.constant(1, tf.uint64)
        )
        return tf.stack([state[2], state[0] // _STEP + (1 + _replica_id()) * (1 << 41)])

    def draws(self):
        return int(self._state.read_value().numpy()[0]) // _STEP

    def set(self, draws, entropy):
        self._state.assign([draws * _STEP, 0, entropy])


def _replica_id():
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(0, tf.int64)
    return tf.cast(context.replica_id_in_sync_group, tf.int64)

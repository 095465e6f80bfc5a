from keras_reg.training._checkpoint import as_saved, is_of_network, is_one_file, put_network_first


def _of_network(name):
    return property(lambda self: getattr(self.model, name), doc=f"The `{name}` of the network.")


class AsNetwork:
    """Attributes and methods with which a model that wraps `model` behaves like `model` itself.

    So `compile` and logs use the names of its outputs, data use those of its inputs, and both load the same files of
    weights.
    """

    inputs, outputs = _of_network("inputs"), _of_network("outputs")
    input_names, output_names = _of_network("input_names"), _of_network("output_names")
    input_shape, output_shape = _of_network("input_shape"), _of_network("output_shape")

    def get_layer(self, name=None, index=None):
        """Returns a layer of this model or, by name, of the network."""
        if name is None or index is not None or name in [layer.name for layer in self.layers]:
            return super().get_layer(name, index)
        return self.model.get_layer(name)

    def summary(self, line_length=None, positions=None, print_fn=None, expand_nested=True, **kwargs):
        """Prints the summary of `keras.Model`, with the layers of the network."""
        super().summary(line_length, positions, print_fn, expand_nested, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """Exports the network, as its own `export` does."""
        return self.model.export(filepath, *args, **kwargs)

    def save_weights(self, filepath, *args, **kwargs):
        """Saves the weights, with the state of the optimizer and the augmentation. The network can load this file too.

        A sharded file (`max_shard_size`) can be loaded only by this model; for the network, use
        `model.save_weights`.
        """
        super().save_weights(filepath, *args, **kwargs)
        if is_one_file(filepath):
            put_network_first(filepath, self.model.name)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads a file that `save_weights` of this model or of the network has written."""
        if not is_one_file(filepath):
            return super().load_weights(filepath, *args, **kwargs)
        if is_of_network(filepath):
            return self.model.load_weights(filepath, *args, **kwargs)
        with as_saved(filepath) as original:
            return super().load_weights(original, *args, **kwargs)

"""Files of weights that a model around a network and the network itself can both load."""

import contextlib
import os
import shutil
import tempfile

import h5py

_REST = "keras_reg"  # the group of everything that belongs to the model around the network
_PLACE = "network"  # its attribute with the original place of the network


def is_one_file(filepath):
    """Whether this is a single local file of weights."""
    return str(filepath).endswith(".weights.h5") and os.path.isfile(filepath)


def is_of_network(filepath):
    """Whether the file contains the weights of the network only."""
    with h5py.File(filepath, "r") as file:
        return _REST not in file


def put_network_first(filepath, name):
    """Moves groups, so that the weights of the network are where it expects them, and all others in `keras_reg`."""
    with h5py.File(filepath, "r+") as file:
        layers = list(file.get("layers", ()))
        named = [layer for layer in layers if _is_model(file["layers"][layer], name)]
        others, rest = list(file), file.create_group(_REST)
        if len(named or layers) != 1:  # a subclass has more layers than a network and its augmentation
            return
        place = rest.attrs[_PLACE] = f"layers/{(named or layers)[0]}"
        for group in others:
            file.move(group, f"{_REST}/{group}")
        network = rest[place]
        for group in list(network):
            file.move(f"{_REST}/{place}/{group}", group)


def _is_model(group, name):
    """Whether a group is that of a model of this name, and not that of the metric of a penalty, which saves nothing."""
    own = group.get("vars", group)  # depending on its version, Keras saves the name of a layer with its variables
    return name in (group.attrs.get("name"), own.attrs.get("name")) and (len(group) > 1 or len(own) > 0)


@contextlib.contextmanager
def as_saved(filepath):
    """Yields the path of a copy in which every group is where Keras saved it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy.weights.h5")
        shutil.copyfile(filepath, copy)
        with h5py.File(copy, "r+") as file:
            place = file[_REST].attrs.get(_PLACE)
            if place is not None:
                for group in set(file) - {_REST}:
                    file.move(group, f"{_REST}/{place}/{group}")
                for group in list(file[_REST]):
                    file.move(f"{_REST}/{group}", group)
        yield copy

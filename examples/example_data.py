"""Images for the examples: scikit-learn's digits by default, an image folder, an .npz file, or a TFDS dataset."""

import argparse
import collections
import pathlib

import keras
import numpy as np

KERAS_DATASETS = ("cifar10", "cifar100", "mnist", "fashion_mnist")

Data = collections.namedtuple("Data", "name x_train y_train x_val y_val classes")


def load(source=None, labeled=None, seed=0):
    """Loads images as float32 in [0, 1] and integer labels.

    Args:
        source: `None` for scikit-learn's digits (8 x 8), a folder `<class>/*.jpg` or `{train,test}/<class>/*.jpg`, an
            .npz with x_train, y_train, x_test and y_test, `tfds:NAME`, or one of `KERAS_DATASETS`, which is downloaded.
        labeled: Number of training images, with the same number per class, or `None` for all images. If the data have
            no test split, the other images are used for validation.
        seed: Seed that selects the training images.

    Returns:
        A `Data` tuple.
    """
    if source is None:
        name, parts = "digits", _digits()
    elif str(source).startswith("tfds:"):
        name, parts = str(source)[5:], _tfds(str(source)[5:])
    elif pathlib.Path(source).is_dir():
        name, parts = pathlib.Path(source).name, _folder(pathlib.Path(source))
    elif pathlib.Path(source).suffix == ".npz":
        name, parts = pathlib.Path(source).stem, _npz(source)
    elif source in KERAS_DATASETS:
        name, parts = source, _keras(source)
    else:
        raise ValueError(f"Expected an image folder, an .npz, tfds:NAME or cifar10. Received: data={source!r}")
    x, y, x_val, y_val = parts
    chosen = _balanced(y, labeled, seed)
    if x_val is None:
        if chosen.all():
            chosen = _balanced(y, int(0.8 * len(y)), seed)
        x_val, y_val = x[~chosen], y[~chosen]
    return Data(name, _scale(x[chosen]), y[chosen], _scale(x_val), y_val, int(max(y.max(), y_val.max())) + 1)


def command_line(doc, epochs, smoke, labeled=200):
    """The argument parser of an example that compares runs on these images."""
    parser = argparse.ArgumentParser(description=doc)
    sources = "image folder, .npz with x_train ... y_test, tfds:NAME, or a name in keras.datasets such as cifar10"
    parser.add_argument("--data", help=f"{sources} (default: digits)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), help="default: tensorflow")
    default = f" (default: {labeled})" if labeled else ""
    parser.add_argument("--labeled", type=int, default=labeled, help=f"number of training images{default}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--out", default="runs", help="folder for the figure and the results (default: runs)")
    parser.add_argument("--smoke", action="store_true", help=smoke)
    return parser


def arguments(doc, epochs, smoke):
    """Parses the command line of an example that compares runs, and returns the arguments of its `main`."""
    given = command_line(doc, epochs, smoke).parse_args()
    return given.data, given.labeled, given.seeds, given.epochs, given.out, given.smoke


def _balanced(y, count, seed):
    """A mask that selects `count` examples, with equal numbers per class as far as possible."""
    chosen = np.zeros(len(y), bool)
    if count is None or count >= len(y):
        return ~chosen
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.zeros(len(y), int)
    for label in np.unique(y):
        of_label = order[y[order] == label]
        rank[of_label] = np.arange(len(of_label))
    chosen[order[np.argsort(rank[order], kind="stable")[:count]]] = True
    return chosen


def _scale(x):
    x = np.asarray(x)
    return x.astype("float32") / 255 if x.dtype == np.uint8 else x.astype("float32")


def _digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x.reshape(-1, 8, 8, 1) / 16).astype("float32"), y, None, None


def _npz(path):
    with np.load(path) as arrays:
        return _with_channels(*(arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")))


def _keras(name):
    (x, y), (x_val, y_val) = getattr(keras.datasets, name).load_data()
    return _with_channels(x, y, x_val, y_val)


def _with_channels(x, y, x_val, y_val):
    x, x_val = (images[..., None] if images.ndim == 3 else images for images in (x, x_val))
    return x, y.reshape(-1).astype("int64"), x_val, y_val.reshape(-1).astype("int64")


def _folder(root):
    def read(folder, names, size=None):
        images, labels = [], []
        for label, name in enumerate(names):
            for path in sorted((folder / name).iterdir()):
                if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
                    image = keras.utils.load_img(path, target_size=size)
                    size = size or (image.height, image.width)
                    images.append(np.asarray(image, "uint8"))
                    labels.append(label)
        if not images:
            raise ValueError(f"Expected images in {folder}/<class>/. Received: none")
        return np.stack(images), np.asarray(labels)

    train = root / "train" if (root / "train").is_dir() else root
    names = sorted(path.name for path in train.iterdir() if path.is_dir())
    x, y = read(train, names)
    if train == root:
        return x, y, None, None
    return x, y, *read(root / "test", names, x.shape[1:3])


def _tfds(name):
    import tensorflow_datasets as tfds

    splits = tfds.builder(name).info.splits or {}
    test = next((split for split in ("test", "validation") if split in splits), None)
    x, y = tfds.as_numpy(tfds.load(name, split="train", batch_size=-1, as_supervised=True))
    if test is None:
        return x, y, None, None
    return x, y, *tfds.as_numpy(tfds.load(name, split=test, batch_size=-1, as_supervised=True))

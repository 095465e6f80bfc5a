import fnmatch
import os

from keras_reg._validation import as_globs, check_flag, check_integer, fail, is_integer, native
from keras_reg.callbacks._gradients._tensorboard import import_tensorboardx


def check_arguments(log_dir, every, bins, include, norms, weights, probe):
    """Checks the arguments of `GradientHistograms` and returns `every`, `bins`, `include`, `norms` and `weights`."""
    if log_dir is not None:
        if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
            fail("`log_dir` must be a path or None.", log_dir=log_dir)
        import_tensorboardx()
    every = native(every)
    if not (isinstance(every, str) and every == "epoch") and not (is_integer(every) and every >= 1):
        fail('`every` must be "epoch" or an integer of at least 1.', every=every)
    bins = check_integer("bins", bins, low=8, high=2**16)
    if bins % 2:
        fail("`bins` must be even: half of the buckets are for each sign.", bins=bins)
    check_globs(include)
    if probe is not None and not (isinstance(probe, (tuple, list)) and len(probe) in (2, 3)):
        fail("`probe` must be (x, y), (x, y, sample_weight) or None.", probe=probe)
    return every, bins, native(include), check_flag("norms", norms), check_flag("weights", weights)


def check_globs(include):
    """Checks that `include` is `None`, a glob or a list of globs."""
    if include is not None and as_globs(include) is None:
        fail("`include` must be a glob, a list of globs, or None.", include=include)


def matches(path, include):
    """Returns whether the path matches one of the globs, or `include` is `None`."""
    return include is None or any(fnmatch.fnmatchcase(path, glob) for glob in as_globs(include))

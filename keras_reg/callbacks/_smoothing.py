"""Smoothing of a noisy curve, and Prechelt's stopping criteria: pure functions of the values so far."""

import numpy as np

# GL_5 is the criterion of Prechelt's Proben1 benchmarks. The others lie in the range of those that he compared.
THRESHOLDS = {"generalization_loss": 5.0, "progress_quotient": 1.0, "successive_increases": 3}


def ema(values, beta):
    """Returns the bias-corrected exponential moving average: weights beta^age, scaled to sum to 1."""
    weights = float(beta) ** np.arange(len(values) - 1, -1, -1)
    return float(np.dot(weights, values) / weights.sum())


def smooth(values, smoothing, beta, window):
    """Returns the last value of the smoothed curve."""
    if smoothing == "ema":
        return ema(values, beta)
    if smoothing is None:
        return values[-1]
    return float({"mean": np.mean, "median": np.median}[smoothing](values[-window:]))


def generalization_loss(errors):
    """GL: by how many percent the last validation error exceeds the lowest one."""
    lowest = min(errors)
    if lowest == 0:
        return np.inf if errors[-1] > 0 else 0.0
    return 100 * (errors[-1] / lowest - 1)


def training_progress(losses):
    """P_k: by how many per mille the mean training loss of a strip exceeds the lowest one in it."""
    return 1000 * (np.mean(losses) / min(losses) - 1) if min(losses) > 0 else np.inf


def progress_quotient(errors, losses, strip):
    """PQ: GL / P_k at the end of a strip of `strip` epochs; 0 within a strip, and while GL is 0."""
    lost = generalization_loss(errors)
    if len(errors) % strip or lost <= 0:
        return 0.0
    progress = training_progress(losses[-strip:])
    return lost / progress if progress > 0 else np.inf


def successive_increases(errors, strip):
    """UP: how many strips in a row, up to the one that ends now, ended with a higher error than the previous strip."""
    if len(errors) % strip:
        return 0
    rises = np.diff(errors[strip - 1 :: strip]) > 0
    return int(np.argmin(np.append(rises[::-1], False)))


def reached(criterion, errors, losses, strip):
    """Returns the current value of a criterion, or `None` if it is undefined: GL and PQ need errors above 0."""
    if criterion == "successive_increases":
        return successive_increases(errors, strip)
    if min(errors) < 0:
        return None
    if criterion == "generalization_loss":
        return generalization_loss(errors)
    return progress_quotient(errors, losses, strip) if min(losses[-strip:]) >= 0 else None

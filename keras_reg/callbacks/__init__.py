from keras_reg.callbacks._divergence_stop import DivergenceStop
from keras_reg.callbacks._exponential_lr import ExponentialLR
from keras_reg.callbacks._gradient_histograms import GradientHistograms
from keras_reg.callbacks._persist import persist
from keras_reg.callbacks._smoothed_early_stopping import SmoothedEarlyStopping
from keras_reg.callbacks._snapshot_ensemble import SnapshotEnsemble
from keras_reg.callbacks._strength_schedule import StrengthSchedule
from keras_reg.callbacks._weight_average import WeightAverage

__all__ = [
    "DivergenceStop",
    "ExponentialLR",
    "GradientHistograms",
    "SmoothedEarlyStopping",
    "SnapshotEnsemble",
    "StrengthSchedule",
    "WeightAverage",
    "persist",
]

from keras_reg.inference._bagging import bagging
from keras_reg.inference._calibrate import calibrate, reliability
from keras_reg.inference._ensemble import ensemble
from keras_reg.inference._monte_carlo import MonteCarlo
from keras_reg.inference._soup import soup
from keras_reg.inference._test_time_augmentation import TestTimeAugmentation
from keras_reg.inference._train_ensemble import train_ensemble
from keras_reg.inference._views import five_crop, flips, multi_scale, ten_crop

__all__ = [
    "MonteCarlo",
    "TestTimeAugmentation",
    "bagging",
    "calibrate",
    "ensemble",
    "five_crop",
    "flips",
    "multi_scale",
    "reliability",
    "soup",
    "ten_crop",
    "train_ensemble",
]

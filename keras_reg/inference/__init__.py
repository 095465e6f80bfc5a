from keras_reg.inference._calibrate import calibrate, reliability
from keras_reg.inference._ensemble import ensemble
from keras_reg.inference._monte_carlo import MonteCarlo
from keras_reg.inference._test_time_augmentation import TestTimeAugmentation
from keras_reg.inference._views import five_crop, flips, multi_scale, ten_crop

__all__ = [
    "MonteCarlo",
    "TestTimeAugmentation",
    "calibrate",
    "ensemble",
    "five_crop",
    "flips",
    "multi_scale",
    "reliability",
    "ten_crop",
]

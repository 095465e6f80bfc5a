from keras_reg.inference._test_time_augmentation import TestTimeAugmentation
from keras_reg.inference._views import five_crop, flips, multi_scale, ten_crop

__all__ = [
    "TestTimeAugmentation",
    "five_crop",
    "flips",
    "multi_scale",
    "ten_crop",
]

from keras_reg.layers._cut_mix import CutMix
from keras_reg.layers._mix_up import MixUp
from keras_reg.layers._random_erasing import RandomErasing

__all__ = ["CutMix", "MixUp", "RandomErasing"]

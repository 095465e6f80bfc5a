from keras_reg.layers._aug_mix import AugMix
from keras_reg.layers._auto_augment import AutoAugment
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._color_jitter import ColorJitter
from keras_reg.layers._cut_mix import CutMix
from keras_reg.layers._drop_block_2d import DropBlock2D
from keras_reg.layers._drop_connect import DropConnect
from keras_reg.layers._drop_path import DropPath, drop_path_rates
from keras_reg.layers._fractional_max_pooling_2d import FractionalMaxPooling2D
from keras_reg.layers._ghost_batch_normalization import GhostBatchNormalization
from keras_reg.layers._label_noise import LabelNoise
from keras_reg.layers._mix_up import MixUp
from keras_reg.layers._noisy_batch_normalization import NoisyBatchNormalization
from keras_reg.layers._pca_color_jitter import PCAColorJitter
from keras_reg.layers._pipeline import Pipeline
from keras_reg.layers._rand_augment import RandAugment
from keras_reg.layers._random_affine import RandomAffine
from keras_reg.layers._random_apply import RandomApply
from keras_reg.layers._random_choice import RandomChoice
from keras_reg.layers._random_erasing import RandomErasing
from keras_reg.layers._random_flip import RandomFlip
from keras_reg.layers._random_gaussian_blur import RandomGaussianBlur
from keras_reg.layers._random_gaussian_noise import RandomGaussianNoise
from keras_reg.layers._random_grayscale import RandomGrayscale
from keras_reg.layers._random_pad_crop import RandomPadCrop
from keras_reg.layers._random_resized_crop import RandomResizedCrop
from keras_reg.layers._random_sharpness import RandomSharpness
from keras_reg.layers._trivial_augment_wide import TrivialAugmentWide
from keras_reg.layers._weight_noise import WeightNoise

__all__ = [
    "AugMix",
    "AutoAugment",
    "BatchAugmentation",
    "ColorJitter",
    "CutMix",
    "DropBlock2D",
    "DropConnect",
    "DropPath",
    "FractionalMaxPooling2D",
    "GhostBatchNormalization",
    "LabelNoise",
    "MixUp",
    "NoisyBatchNormalization",
    "PCAColorJitter",
    "Pipeline",
    "RandAugment",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGaussianNoise",
    "RandomGrayscale",
    "RandomPadCrop",
    "RandomResizedCrop",
    "RandomSharpness",
    "TrivialAugmentWide",
    "WeightNoise",
    "drop_path_rates",
]

"""The names of the rows of the tables, by what is asked of them. What each row runs is in contenders.py."""

TARGETED = (
    "RandomErasing, constant",
    "RandomErasing, pixel noise",
    "RandomErasing, channel noise",
    "MixUp",
    "CutMix",
    "Choice of MixUp and CutMix",
    "Pipeline of erasing and choice",
)
CHAIN = "Chain of erasing, MixUp and CutMix"
LINKS = ("RandomErasing, constant", "MixUp", "CutMix")
PER_BATCH = ("MixUp, one draw a batch", "CutMix, one draw a batch")
MOVING = ("RandomFlip", "RandomAffine", "RandomPadCrop", "RandomResizedCrop")
FUSED = "Pipeline of flip, affine and crop"
NOT_FUSED, WITH_COLORS = f"{FUSED}, fuse=False", "Pipeline of flip, affine, jitter and gray"
TWO_WARPS = "Pipeline of two affines"
TWO_WARPS_NOT_FUSED = f"{TWO_WARPS}, fuse=False"
FILTERS = ("ColorJitter", "RandomGaussianBlur", "RandomSharpness", "RandomGaussianNoise")
POLICIES = ("RandAugment", "TrivialAugmentWide", "AutoAugment", "AugMix")
WARP = "RandomAffine"
BESIDE_WARP = (FUSED, TWO_WARPS, TWO_WARPS_NOT_FUSED, "RandAugment")  # what is compared with one warp
# (who, row): PyTorch compiles them for more than ten minutes.
SLOW_TO_COMPILE = (("Keras", WARP), ("keras-aug", WARP))
PIXELS = (*MOVING, FUSED, *FILTERS, *POLICIES, "RandomGrayscale")
OTHERS = (
    *PIXELS,
    TWO_WARPS,
    TWO_WARPS_NOT_FUSED,
    "PCAColorJitter",
    "LabelNoise",
    "RandomApply of erasing",
)
BLENDING = ("MixUp", "Choice", "Pipeline", "Chain", "PCA", "RandomResizedCrop")  # integer images become floats


def names(targeted=False, dtype="float32"):
    """The rows of a table. Integer images are compared where they stay integers."""
    found = [*TARGETED, CHAIN, *(() if targeted else (*PER_BATCH, *OTHERS))]
    return found if dtype != "uint8" else [name for name in found if not name.startswith(BLENDING)]

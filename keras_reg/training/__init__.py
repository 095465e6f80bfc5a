from keras_reg._renamed import renamed_in
from keras_reg.training._penalties._confidence_penalty import ConfidencePenalty
from keras_reg.training._penalties._consistent_dropout import ConsistentDropout
from keras_reg.training._penalties._jensen_shannon_consistency import JensenShannonConsistency
from keras_reg.training._penalties._penalty import Penalty
from keras_reg.training._penalties._virtual_adversarial import VirtualAdversarial
from keras_reg.training._regularized_model import RegularizedModel
from keras_reg.training._sharpness_aware import SharpnessAware

__all__ = [
    "ConfidencePenalty",
    "ConsistentDropout",
    "JensenShannonConsistency",
    "Penalty",
    "RegularizedModel",
    "SharpnessAware",
    "VirtualAdversarial",
]

__getattr__ = renamed_in(__name__, AugmentedModel="RegularizedModel")

from keras_reg.transfer._freeze import freeze, unfreeze
from keras_reg.transfer._phase import Phase
from keras_reg.transfer._suggest_phases import suggest_phases
from keras_reg.transfer._transfer_learner import TransferLearner

__all__ = ["Phase", "TransferLearner", "freeze", "suggest_phases", "unfreeze"]

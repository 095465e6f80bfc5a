from keras_reg.metrics._expected_calibration_error import ExpectedCalibrationError

__all__ = ["ExpectedCalibrationError"]

"""What the layers with noise inside a network share."""

"""What every batch augmentation does: checks of a call, one draw, compiled programs, and the hooks of a subclass."""

"""The parts of every batch augmentation: checks of a call, random draws, compiled programs, and hooks."""

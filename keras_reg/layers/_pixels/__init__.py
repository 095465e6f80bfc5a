"""Operations on pixels: mixing, filling and moving, with kernels for compilers and for the host."""

"""Operations on pixels: mixing, filling, moving, flipping and warping, with kernels for compilers and for the host."""

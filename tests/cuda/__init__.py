"""Tests of the CUDA kernels. None needs a GPU: they are compiled, planned for and emulated."""

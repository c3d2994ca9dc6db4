// SPDX-License-Identifier: Apache-2.0
#define SK_DTYPE float
#define SK_NAMED(kernel) kernel##_float
#include "kernels_dtype.inc"

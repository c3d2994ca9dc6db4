// SPDX-License-Identifier: Apache-2.0
#define SK_DTYPE half
#define SK_NAMED(kernel) kernel##_half
#include "kernels_dtype.inc"

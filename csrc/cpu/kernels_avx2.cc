// SPDX-License-Identifier: Apache-2.0
#define SKNET_ISA avx2
#define SKNET_VEC 8
#include "cpu/kernels.h"

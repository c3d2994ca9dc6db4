// SPDX-License-Identifier: Apache-2.0
#define SKNET_ISA avx512
#define SKNET_VEC 16
#include "cpu/kernels.h"

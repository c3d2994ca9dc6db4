// SPDX-License-Identifier: Apache-2.0
#define SKNET_ISA neon
#define SKNET_VEC 4
#include "cpu/kernels.h"

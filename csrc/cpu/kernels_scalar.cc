// SPDX-License-Identifier: Apache-2.0
#define SKNET_ISA scalar
#define SKNET_VEC 1
#include "cpu/kernels.h"

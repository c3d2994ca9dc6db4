// SPDX-License-Identifier: Apache-2.0
#define SKNET_ISA amx
#define SKNET_VEC 16
#define SKNET_AMX
#include "cpu/kernels.h"

// SPDX-License-Identifier: Apache-2.0
// The one place that reads the processor's features and picks an instruction set.
#if defined(__linux__)
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "sknet_ops/ops.h"

namespace sknet_ops::cpu {

namespace scalar {
extern const OpTable<float> kTable;
}
#if defined(__x86_64__)
namespace avx2 {
extern const OpTable<float> kTable;
}
namespace avx512 {
extern const OpTable<float> kTable;
}
#ifdef SKNET_HAS_AMX
namespace amx {
extern const OpTable<float> kTable;
}
#endif
#elif defined(__aarch64__)
namespace neon {
extern const OpTable<float> kTable;
}
#endif

namespace {

constexpr Isa kAll[] = {Isa::kAmx, Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kScalar};  // best first

#if defined(__x86_64__)
// Besides the processor the system must let the process have the tiles, which it does on demand only, since they make
// a thread's saved state 8 KB larger.
const char* why_no_tiles() {
#if defined(SKNET_HAS_AMX) && defined(__linux__)
  static const char* const reason = []() -> const char* {
    if (why_not(Isa::kAvx512) != nullptr) return "this processor has no AVX-512 (F, VL, BW, DQ)";
    unsigned eax, ebx, ecx, edx;  // compilers do not all know these features by name
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & kBf16) == 0 || (edx & kTile) == 0) {
      return "this processor has no AMX (tile, bf16)";
    }
    constexpr unsigned kStates = 3u << 17;  // tile configuration and data
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    if ((eax & kStates) != kStates) return "the system does not save the state of AMX";
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, asm/prctl.h
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? nullptr
                                                                       : "the system does not grant the use of AMX";
  }();
  return reason;
#else
  return "this binary was built without AMX";
#endif
}
#endif

std::string choices() {
  std::string text;
  for (Isa isa : kAll) {
    if (why_not(isa) == nullptr) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  return text;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
    case Isa::kAmx: return "amx";
  }
  return "unknown";
}

const char* why_not(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return nullptr;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? nullptr
                                                                             : "this processor has no AVX2 with FMA";
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("fma")
                 ? nullptr
                 : "this processor has no AVX-512 (F, VL, BW, DQ)";
    case Isa::kAmx: return why_no_tiles();
    case Isa::kNeon: return "this binary is for x86-64";
#elif defined(__aarch64__)
    case Isa::kNeon: return nullptr;
    case Isa::kAvx2:
    case Isa::kAvx512:
    case Isa::kAmx: return "this binary is for aarch64";
#else
    default: return "this binary has scalar kernels only";
#endif
  }
  return "no such instruction set";
}

const OpTable<float>& table(Isa isa) {
  if (const char* reason = why_not(isa)) {
    throw std::invalid_argument(std::string("instruction set ") + isa_name(isa) + " cannot run here: " + reason +
                                "; available: " + choices());
  }
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::kTable;
    case Isa::kAvx512: return avx512::kTable;
#ifdef SKNET_HAS_AMX
    case Isa::kAmx: return amx::kTable;
#endif
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::kTable;
#endif
    default: return scalar::kTable;
  }
}

Isa active_isa() {
  const char* asked = std::getenv("SKNET_OPS_ISA");
  if (asked == nullptr || *asked == '\0') {
    for (Isa isa : kAll) {
      if (why_not(isa) == nullptr) return isa;
    }
  }
  for (Isa isa : kAll) {
    if (asked != nullptr && std::strcmp(asked, isa_name(isa)) == 0) {
      if (const char* reason = why_not(isa)) {
        throw std::invalid_argument(std::string("SKNET_OPS_ISA=") + asked + ": " + reason +
                                    "; available: " + choices());
      }
      return isa;
    }
  }
  throw std::invalid_argument(std::string("SKNET_OPS_ISA=") + asked + " is unknown; available: " + choices());
}

}  // namespace sknet_ops::cpu

namespace sknet_ops {

const char* active_backend() {
  const char* asked = std::getenv("SKNET_OPS_BACKEND");
  if (asked == nullptr || *asked == '\0' || std::strcmp(asked, "cpu") == 0) return "cpu";
  if (std::strcmp(asked, "reference") == 0) return "reference";
  throw std::invalid_argument(std::string("SKNET_OPS_BACKEND=") + asked + " is unknown; available: cpu, reference");
}

const OpTable<float>& active_table() {
  return std::strcmp(active_backend(), "cpu") == 0 ? cpu::table(cpu::active_isa()) : reference::table<float>();
}

}  // namespace sknet_ops

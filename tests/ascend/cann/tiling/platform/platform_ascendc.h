// SPDX-License-Identifier: Apache-2.0
// A stand-in for CANN's header: an Ascend 910B1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace platform_ascendc {
enum class SocVersion { ASCEND910B };
class PlatformAscendC {
 public:
  explicit PlatformAscendC(void*) {}
  SocVersion GetSocVersion() const { return SocVersion::ASCEND910B; }
  uint32_t GetCoreNumAic() const { return 24; }
  uint32_t GetCoreNumAiv() const { return 48; }
  size_t GetLibApiWorkSpaceSize() const { return 16 << 20; }
};
}  // namespace platform_ascendc

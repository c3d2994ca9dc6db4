#!/usr/bin/env bash
# Builds the Ascend C ops into a CANN vendor package under sknet_ops/lib/ascend, where the package finds it.
# Usage: scripts/build_ascend.sh [PYTHON]; needs a CANN toolkit and a MindSpore with its Ascend plug-in.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
stop() { echo "make ascend: $*" >&2; exit 1; }

cann=${ASCEND_HOME_PATH:-${ASCEND_TOOLKIT_HOME:-}}
[ -n "$cann" ] || stop "no CANN toolkit: install CANN 8.2 or later and source its set_env.sh (ASCEND_HOME_PATH is unset)"
[ -d "$cann" ] || stop "no CANN toolkit: ASCEND_HOME_PATH is $cann, which is no folder"
[ -x "$cann/bin/opc" ] || [ -d "$cann/compiler" ] || [ -d "$cann/tools" ] ||
  stop "$cann has no operator compiler: install the CANN toolkit package, not the runtime alone"
compiler=$("$python" -c 'import os, importlib.util as u
print(os.path.join(os.path.dirname(u.find_spec("mindspore").origin), "lib/plugin/ascend/custom_compiler"))') ||
  stop "$python has no MindSpore"
[ -f "$compiler/setup.py" ] || stop "this MindSpore has no custom_compiler: install the Ascend build of MindSpore"

# CANN's project takes one flat folder of host sources and one of kernels.
work=build/ascend_vendor
rm -rf "$work" && mkdir -p "$work/op_host" "$work/op_kernel"
cp csrc/ascend/op_kernel/*.h csrc/ascend/op_kernel/*.cpp "$work/op_kernel/"
cp csrc/ascend/op_host/*.h csrc/ascend/op_host/*.cpp "$work/op_host/"
for source in csrc/ascend/op_host/*.cc; do cp "$source" "$work/op_host/$(basename "$source" .cc).cpp"; done
cp csrc/ascend/op_kernel/sk_tiling_data.h "$work/op_host/"
cp -r csrc/include/sknet_ops "$work/op_host/"
"$python" "$compiler/setup.py" --op_host_path "$work/op_host" --op_kernel_path "$work/op_kernel" \
  --soc_version "${SOC_VERSION:-Ascend910B1}" --ascend_cann_package_path "$cann" --vendor_name sknet_ops \
  --install_path "$PWD/sknet_ops/lib/ascend" --install
echo "installed: sknet_ops/lib/ascend/vendors/sknet_ops"

#!/usr/bin/env bash
# Builds the Ascend C ops into a CANN vendor package under sknet_ops/lib/ascend, where the package finds it.
# Usage: scripts/build_ascend.sh [PYTHON]; needs a CANN toolkit and a MindSpore with its custom_compiler.
# SKNET_OPS_ASCEND_OUT is another folder for the package.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
out=${SKNET_OPS_ASCEND_OUT:-$PWD/sknet_ops/lib/ascend}
stop() { echo "make ascend: $*" >&2; exit 1; }

cann=${ASCEND_HOME_PATH:-${ASCEND_TOOLKIT_HOME:-}}
[ -n "$cann" ] || stop "no CANN toolkit: install CANN 8.2 or later and source its set_env.sh (ASCEND_HOME_PATH is unset)"
[ -d "$cann" ] || stop "no CANN toolkit: ASCEND_HOME_PATH is $cann, which is no folder"
# What custom_compiler makes its project from.
[ -d "$cann/tools/op_project_templates/ascendc/customize" ] ||
  [ -d "$cann/tools/msopgen/template/operator_demo_projects/ascendc_operator_sample" ] ||
  stop "$cann has no template of operator projects: install the CANN toolkit package, not the runtime alone"
case ${SOC_VERSION:-Ascend910B1} in
  Ascend910B* | ascend910b) ;;
  *) stop "SOC_VERSION: got $SOC_VERSION, expected a chip of the Ascend 910B family, as npu-smi names it" ;;
esac
compiler=$("$python" -c 'import os, importlib.util as u
print(os.path.join(os.path.dirname(u.find_spec("mindspore").origin), "lib/plugin/ascend/custom_compiler"))' 2>/dev/null) ||
  stop "$python has no MindSpore"
[ -f "$compiler/setup.py" ] || stop "this MindSpore has no custom_compiler: install a build with the Ascend plug-in"

# custom_compiler works in its own folder, and takes from the two others what lies in them directly.
work=$PWD/build/ascend_vendor
rm -rf "$work" && mkdir -p "$work/op_host" "$work/op_kernel" "$out"
cp -r "$compiler" "$work/compiler"
cp csrc/ascend/op_kernel/*.h csrc/ascend/op_kernel/*.cpp "$work/op_kernel/"
cp csrc/ascend/op_host/*.h csrc/ascend/op_host/*.cpp csrc/ascend/op_kernel/sk_tiling_data.h "$work/op_host/"
for source in csrc/ascend/op_host/*.cc; do cp "$source" "$work/op_host/$(basename "$source" .cc).cpp"; done
cp csrc/include/sknet_ops/params.h "$work/op_host/"
sed -i 's|#include "sknet_ops/params.h"|#include "params.h"|' "$work"/op_host/*
(
  cd "$work/compiler"
  "$python" setup.py --op_host_path "$work/op_host" --op_kernel_path "$work/op_kernel" --soc_version ascend910b \
    --ascend_cann_package_path "$cann" --vendor_name sknet_ops --install_path "$out" --install
) || stop "custom_compiler failed: see $work/compiler/build.log and install.log"
[ -d "$out/vendors/sknet_ops" ] || stop "custom_compiler installed no package in $out: see $work/compiler/install.log"
echo "installed: $out/vendors/sknet_ops"

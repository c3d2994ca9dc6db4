# Which files make which target, and for which instruction set each kernel file is compiled.
file(GLOB SKNET_OPS_COMMON_SOURCES CONFIGURE_DEPENDS csrc/common/*.cc)
file(GLOB reference_sources CONFIGURE_DEPENDS csrc/reference/*.cc)
file(GLOB cpu_sources CONFIGURE_DEPENDS csrc/cpu/*.cc)
file(GLOB c_entry_sources CONFIGURE_DEPENDS csrc/bindings/*.cc)
file(GLOB SKNET_OPS_PYBIND_SOURCES CONFIGURE_DEPENDS csrc/bindings/pybind_*.cc)
list(REMOVE_ITEM c_entry_sources ${SKNET_OPS_PYBIND_SOURCES})
list(FILTER c_entry_sources EXCLUDE REGEX "/cuda_")  # cuda.cmake's

# kernels_<isa>.cc is compiled for <isa>; every other file for the architecture's baseline.
list(FILTER cpu_sources EXCLUDE REGEX "/kernels_[a-z0-9]+\\.cc$")
set(kernel_sources)

function(sknet_ops_add_kernels isa)
  set(source ${CMAKE_SOURCE_DIR}/csrc/cpu/kernels_${isa}.cc)
  if(EXISTS ${source})
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
                                "-ffp-contract=fast;-falign-functions=64;-falign-loops=64;${ARGN}")
    list(APPEND kernel_sources ${source})
    set(kernel_sources ${kernel_sources} PARENT_SCOPE)
  endif()
endfunction()

# From the least to the most demanding: of an inline function (std::vector's, say) that several files emit, the linker
# keeps the first copy, which must run wherever any of them does.
sknet_ops_add_kernels(scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  sknet_ops_add_kernels(avx2 -mavx2 -mfma)
  set(avx512_flags -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512)
  sknet_ops_add_kernels(avx512 ${avx512_flags})
  # The assembler must know AMX; the compiler need not.
  include(CheckCXXSourceCompiles)
  check_cxx_source_compiles("int main() { __asm__ volatile(\"tdpbf16ps %tmm6, %tmm4, %tmm0\"); }" SKNET_OPS_HAS_AMX)
  if(SKNET_OPS_HAS_AMX)
    sknet_ops_add_kernels(amx ${avx512_flags})
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  sknet_ops_add_kernels(neon)
endif()

set(SKNET_OPS_LIBRARY_SOURCES
    ${SKNET_OPS_COMMON_SOURCES} ${reference_sources} ${c_entry_sources} ${cpu_sources} ${kernel_sources})

# libsknet_ops_cuda.so: the kernels for NVIDIA GPUs and their C entries, apart from libsknet_ops.so so that neither needs
# the other. Built if nvcc is found; -DSKNET_OPS_CUDA=OFF leaves it.
option(SKNET_OPS_CUDA "Build libsknet_ops_cuda.so where nvcc is found" ON)

file(GLOB cuda_sources CONFIGURE_DEPENDS csrc/cuda/*.cu csrc/cuda/*.cc)
# The descriptions of the ops are compiled once more, over this library's table. Plain convolutions and pooling are cuDNN's.
file(GLOB cuda_entries CONFIGURE_DEPENDS csrc/bindings/mindspore_*.cc csrc/bindings/cuda_*.cc csrc/bindings/profile.cc)
list(FILTER cuda_entries EXCLUDE REGEX "/mindspore_(conv_bn_act|max_pool|pool_dense)\\.cc$")
set(SKNET_OPS_CUDA_SOURCES ${cuda_sources} ${cuda_entries} ${SKNET_OPS_COMMON_SOURCES})

# What the device library and the emulated one have in common. MindSpore's string layout, as in libsknet_ops.so. Its own
# symbols first: a process may hold libsknet_ops.so, too, whose C entries have the same names.
function(sknet_ops_cuda_target target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/csrc ${CMAKE_SOURCE_DIR}/csrc/include)
  target_compile_definitions(${target} PRIVATE _GLIBCXX_USE_CXX11_ABI=0 SKNET_OPS_HAS_STREAMS)
  target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now -Wl,--no-undefined -Wl,-Bsymbolic
                      -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exports.map)
  target_link_libraries(${target} PRIVATE Threads::Threads)
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exports.map)
endfunction()

set(SKNET_OPS_CUDA_FOUND OFF)
if(SKNET_OPS_CUDA)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)  # 75 is the lowest that CUDA 13 compiles; 90 comes as PTX too, for what follows
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(SKNET_OPS_CUDA_FOUND ON)
  else()
    message(STATUS "nvcc was not found: no libsknet_ops_cuda.so (-DCMAKE_CUDA_COMPILER=... names one)")
  endif()
endif()

if(SKNET_OPS_CUDA_FOUND)
  enable_language(CUDA)
  add_library(sknet_ops_cuda SHARED ${SKNET_OPS_CUDA_SOURCES})
  sknet_ops_cuda_target(sknet_ops_cuda)
  set_target_properties(sknet_ops_cuda PROPERTIES
    LIBRARY_OUTPUT_DIRECTORY ${package_dir}/lib LINKER_LANGUAGE CXX
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden
    # Static: the process may hold another CUDA runtime, MindSpore's or PyTorch's.
    CUDA_RUNTIME_LIBRARY Static
    # Keeps what the compiler reports of each kernel beside its object.
    CUDA_COMPILER_LAUNCHER "sh;${CMAKE_SOURCE_DIR}/cmake/keep_report.sh")
  target_compile_options(sknet_ops_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v -Xcompiler=-Wall,-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>)
  target_link_libraries(sknet_ops_cuda PRIVATE ${CMAKE_DL_LIBS} rt)
  install(TARGETS sknet_ops_cuda LIBRARY DESTINATION sknet_ops/lib)
endif()

# The same kernels for the host compiler; tests build it, nothing installs it.
add_subdirectory(csrc/cuda/emu EXCLUDE_FROM_ALL)

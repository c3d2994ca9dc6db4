# Flags that every target shares. Nothing here names the build machine's processor: see sources.cmake for the
# files that are compiled for one instruction set.
add_library(sknet_ops_flags INTERFACE)
# Contraction is off by default so that the reference gives the same bits on every processor; kernels switch it on.
target_compile_options(sknet_ops_flags INTERFACE -Wall -Wextra -ffp-contract=off -fno-math-errno -fno-trapping-math
                       -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
target_link_options(sknet_ops_flags INTERFACE -Wl,-z,relro,-z,now)

if(SKNET_OPS_WERROR)
  target_compile_options(sknet_ops_flags INTERFACE -Werror)
endif()

if(SKNET_OPS_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  target_compile_options(sknet_ops_flags INTERFACE ${sanitizers} -g1 -O1 -fno-omit-frame-pointer)
  target_link_options(sknet_ops_flags INTERFACE ${sanitizers})
endif()

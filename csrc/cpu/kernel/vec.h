// SPDX-License-Identifier: Apache-2.0
// Vectors of SKNET_VEC floats, by the compiler's vector extensions. Included once per instruction set, inside
// namespace sknet_ops::cpu::SKNET_ISA: nothing here may be shared between instruction sets, or the linker could keep
// the copy that an old processor cannot run. For the same reason the kernels use no templates of the standard library.

inline constexpr int kVec = SKNET_VEC;

#if SKNET_VEC == 1
using Vec = float;
static inline Vec load(const float* p) { return *p; }
static inline void store(float* p, Vec v) { *p = v; }
static inline Vec broadcast(float x) { return x; }
static inline float sum(Vec v) { return v; }
using Wide = double;
static inline void add_wide(Wide& to, Vec v) { to += static_cast<double>(v); }
static inline void add_product(Wide& to, Vec a, Vec b) { to += static_cast<double>(a) * static_cast<double>(b); }
static inline double sum_wide(const Wide& v) { return v; }
static inline Vec relu(Vec v) { return v < 0.0f ? 0.0f : v; }
static inline Vec keep_if_positive(Vec v, Vec mask) { return mask <= 0.0f ? 0.0f : v; }
#else
typedef float Vec __attribute__((vector_size(SKNET_VEC * 4)));
typedef float VecUnaligned __attribute__((vector_size(SKNET_VEC * 4), aligned(4), may_alias));
static inline Vec load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
static inline Vec broadcast(float x) { return x - Vec{}; }
// NaN stays NaN in all of these.
static inline Vec relu(Vec v) { return v < 0.0f ? Vec{} : v; }
static inline Vec keep_if_positive(Vec v, Vec mask) { return mask <= 0.0f ? Vec{} : v; }

// Sums in double, where many floats nearly cancel later. By reference: too wide a vector to be an argument.
typedef double Wide __attribute__((vector_size(SKNET_VEC * 8)));
static inline void add_wide(Wide& to, Vec v) { to += __builtin_convertvector(v, Wide); }
static inline void add_product(Wide& to, Vec a, Vec b) {
  to += __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide);
}
static inline double sum_wide(const Wide& v) {
  double total = 0.0;
  for (int i = 0; i < SKNET_VEC; ++i) total += v[i];
  return total;
}

typedef float Vec4 __attribute__((vector_size(16)));
static inline float sum4(Vec4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#if SKNET_VEC == 4
static inline float sum(Vec v) { return sum4(v); }
#else
typedef float Vec8 __attribute__((vector_size(32)));
static inline float sum8(Vec8 v) {
  return sum4(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
#if SKNET_VEC == 8
static inline float sum(Vec v) { return sum8(v); }
#else
static inline float sum(Vec v) {
  return sum8(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif
#endif
#endif

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// task(index, worker) for every index below `tasks`, on all workers.
template <typename Task>
static inline void parallel(int64_t tasks, Task&& task) {
  run_tasks(
      tasks, [](void* context, int64_t index, int worker) { (*static_cast<Task*>(context))(index, worker); }, &task);
}

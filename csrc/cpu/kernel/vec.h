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
// Halves onto each other: a chain of lanes would wait for every one of them.
typedef double Double2 __attribute__((vector_size(16)));
typedef double Double4 __attribute__((vector_size(32)));
static inline double sum_doubles(const Double4& v) {
  const Double2 half = __builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3);
  return half[0] + half[1];
}
#if SKNET_VEC == 4
static inline double sum_wide(const Wide& v) { return sum_doubles(v); }
#else
typedef double Double8 __attribute__((vector_size(64)));
static inline double sum_doubles(const Double8& v) {
  return sum_doubles(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
#if SKNET_VEC == 8
static inline double sum_wide(const Wide& v) { return sum_doubles(v); }
#else
static inline double sum_wide(const Wide& v) {
  return sum_doubles(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif
#endif

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

#if SKNET_VEC > 1
typedef int VecIndex __attribute__((vector_size(SKNET_VEC * 4)));
static inline VecIndex even_lanes() {  // 0, 2, 4 ...
  VecIndex even{};
  for (int i = 0; i < kVec; ++i) even[i] = 2 * i;
  return even;
}
// p[at[0]], p[at[1]] ..., all of them within two vectors, which are read.
static inline Vec pick(const float* p, VecIndex at) { return __builtin_shuffle(load(p), load(p + kVec), at); }
#endif

// Fewer than a vector, 0 < n < kVec; what is not loaded is zero.
#if SKNET_VEC == 16
static inline Vec load_part(const float* p, int64_t n) {
  return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
}
static inline void store_part(float* p, Vec v, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512>(v));
}
#elif SKNET_VEC == 8
static inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline Vec load_part(const float* p, int64_t n) {
  return reinterpret_cast<Vec>(_mm256_maskload_ps(p, first_lanes(n)));
}
static inline void store_part(float* p, Vec v, int64_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), reinterpret_cast<__m256>(v));
}
#else
static inline Vec load_part(const float* p, int64_t n) {
  float buffer[kVec] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
static inline void store_part(float* p, Vec v, int64_t n) {
  float buffer[kVec];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}
#endif

// A vector or fewer, 0 < n <= kVec.
static inline void store_some(float* to, Vec v, int64_t n) {
  if (n == kVec) {
    store(to, v);
  } else {
    store_part(to, v, n);
  }
}
static inline Vec load_some(const float* from, int64_t n) { return n == kVec ? load(from) : load_part(from, n); }
// The first n lanes of v, zero in the others.
static inline Vec keep_some(Vec v, int64_t n) {
#if SKNET_VEC == 16
  if (n < kVec) {
    const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
    return reinterpret_cast<Vec>(_mm512_maskz_mov_ps(mask, reinterpret_cast<__m512>(v)));
  }
  return v;
#elif SKNET_VEC == 1
  (void)n;
  return v;
#else
  if (n == kVec) return v;
  float buffer[kVec];
  store(buffer, v);
  return load_part(buffer, n);
#endif
}

// to[j * to_step + i] = from[i * from_step + j] for i, j < kVec.
static inline void transpose(const float* from, int64_t from_step, float* to, int64_t to_step) {
#if SKNET_VEC >= 8
#if SKNET_VEC == 16
#define SKNET_QUARTERS(a, b, i, j, k, l)                                                                            \
  __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, \
                          k + 12, l + 12)
#else
#define SKNET_QUARTERS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
#endif
  constexpr int kOther = kVec;  // where the second operand's lanes start
  Vec s[kVec];                  // s[4 * i + j]: of rows 4 * i to 4 * i + 3, every fourth column from j on
#pragma GCC unroll 4
  for (int i = 0; i < kVec / 4; ++i) {
    const float* f = from + 4 * i * from_step;
    const Vec r0 = load(f), r1 = load(f + from_step), r2 = load(f + 2 * from_step), r3 = load(f + 3 * from_step);
    const Vec low01 = SKNET_QUARTERS(r0, r1, 0, kOther, 1, kOther + 1);
    const Vec low23 = SKNET_QUARTERS(r2, r3, 0, kOther, 1, kOther + 1);
    const Vec high01 = SKNET_QUARTERS(r0, r1, 2, kOther + 2, 3, kOther + 3);
    const Vec high23 = SKNET_QUARTERS(r2, r3, 2, kOther + 2, 3, kOther + 3);
    s[4 * i] = SKNET_QUARTERS(low01, low23, 0, 1, kOther, kOther + 1);
    s[4 * i + 1] = SKNET_QUARTERS(low01, low23, 2, 3, kOther + 2, kOther + 3);
    s[4 * i + 2] = SKNET_QUARTERS(high01, high23, 0, 1, kOther, kOther + 1);
    s[4 * i + 3] = SKNET_QUARTERS(high01, high23, 2, 3, kOther + 2, kOther + 3);
  }
#undef SKNET_QUARTERS
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#if SKNET_VEC == 16
#define SKNET_HALVES(a, b, i, j)                                                                                     \
  __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 8, i + 9, i + 10, i + 11, j, j + 1, j + 2, j + 3, j + 8, \
                          j + 9, j + 10, j + 11)
    const Vec even0 = SKNET_HALVES(s[j], s[4 + j], 0, 16), even1 = SKNET_HALVES(s[8 + j], s[12 + j], 0, 16);
    const Vec odd0 = SKNET_HALVES(s[j], s[4 + j], 4, 20), odd1 = SKNET_HALVES(s[8 + j], s[12 + j], 4, 20);
    store(to + j * to_step, SKNET_HALVES(even0, even1, 0, 16));
    store(to + (4 + j) * to_step, SKNET_HALVES(odd0, odd1, 0, 16));
    store(to + (8 + j) * to_step, SKNET_HALVES(even0, even1, 4, 20));
    store(to + (12 + j) * to_step, SKNET_HALVES(odd0, odd1, 4, 20));
#undef SKNET_HALVES
#else
    store(to + j * to_step, __builtin_shufflevector(s[j], s[4 + j], 0, 1, 2, 3, 8, 9, 10, 11));
    store(to + (4 + j) * to_step, __builtin_shufflevector(s[j], s[4 + j], 4, 5, 6, 7, 12, 13, 14, 15));
#endif
  }
#else
  for (int i = 0; i < kVec; ++i) {
    for (int j = 0; j < kVec; ++j) to[j * to_step + i] = from[i * from_step + j];
  }
#endif
}

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// task(index, worker) for every index below `tasks`, on all workers.
template <typename Task>
static inline void parallel(int64_t tasks, Task&& task) {
  run_tasks(
      tasks, [](void* context, int64_t index, int worker) { (*static_cast<Task*>(context))(index, worker); }, &task);
}

// Each worker's own tasks the other way round: what it wrote last is what it still has in its cache.
static inline int64_t backwards(int64_t task, int64_t tasks) {
  const int64_t count = workers();
  const int64_t w = ((task + 1) * count - 1) / tasks;  // the last share that begins no later
  return tasks * w / count + tasks * (w + 1) / count - 1 - task;
}

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
using Doubles = double;
inline constexpr int kDoubles = 1;
static inline Doubles load_doubles(const float* p) { return static_cast<double>(*p); }
static inline double sum_doubles(const Doubles& v) { return v; }
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
static inline double sum_doubles(const Double2& v) { return v[0] + v[1]; }
static inline double sum_doubles(const Double4& v) {
  return sum_doubles(__builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3));
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

// A register of doubles.
inline constexpr int kDoubles = SKNET_VEC / 2;
typedef double Doubles __attribute__((vector_size(SKNET_VEC * 4)));
static inline Doubles load_doubles(const float* p) {
  typedef float Floats __attribute__((vector_size(SKNET_VEC * 2), aligned(4), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Floats*>(p), Doubles);
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

// to[j * to_step + i] = from[i * from_step + j * Step] for i < kVec and j < columns, Step 1 or 2. Goes by four floats
// of each row, and may read and write the columns past `columns` that the last four have. Blocks of 4 x 4 are put into
// place as they are loaded, by another unit than the one that shuffles.
template <int Step>
static inline void transpose_columns(const float* from, int64_t from_step, float* to, int64_t to_step,
                                     int64_t columns) {
#if SKNET_VEC >= 8
#if SKNET_VEC == 16
#define SKNET_QUARTERS(a, b, i, j, k, l)                                                                            \
  __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, \
                          k + 12, l + 12)
  auto rows = [from_step](const float* f) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(f));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(f + 4 * from_step), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(f + 8 * from_step), 2);
    return reinterpret_cast<Vec>(_mm512_insertf32x4(v, _mm_loadu_ps(f + 12 * from_step), 3));
  };
#else
#define SKNET_QUARTERS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
  auto rows = [from_step](const float* f) {
    const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(f));
    return reinterpret_cast<Vec>(_mm256_insertf128_ps(v, _mm_loadu_ps(f + 4 * from_step), 1));
  };
#endif
  constexpr int kOther = kVec;  // where the second operand's lanes start
#pragma GCC unroll 4
  for (int64_t j = 0; j < columns; j += 4 / Step, from += 4, to += 4 / Step * to_step) {
    // Rows i, 4 + i .. of four columns.
    const Vec r0 = rows(from), r1 = rows(from + from_step), r2 = rows(from + 2 * from_step);
    const Vec r3 = rows(from + 3 * from_step);
    const Vec low01 = SKNET_QUARTERS(r0, r1, 0, kOther, 1, kOther + 1);
    const Vec low23 = SKNET_QUARTERS(r2, r3, 0, kOther, 1, kOther + 1);
    const Vec high01 = SKNET_QUARTERS(r0, r1, 2, kOther + 2, 3, kOther + 3);
    const Vec high23 = SKNET_QUARTERS(r2, r3, 2, kOther + 2, 3, kOther + 3);
    store(to, SKNET_QUARTERS(low01, low23, 0, 1, kOther, kOther + 1));
    if constexpr (Step == 1) store(to + to_step, SKNET_QUARTERS(low01, low23, 2, 3, kOther + 2, kOther + 3));
    store(to + 2 / Step * to_step, SKNET_QUARTERS(high01, high23, 0, 1, kOther, kOther + 1));
    if constexpr (Step == 1) store(to + 3 * to_step, SKNET_QUARTERS(high01, high23, 2, 3, kOther + 2, kOther + 3));
  }
#undef SKNET_QUARTERS
#else
  for (int64_t i = 0; i < kVec; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_step + i] = from[i * from_step + j * Step];
  }
#endif
}
static inline void transpose(const float* from, int64_t from_step, float* to, int64_t to_step) {
  transpose_columns<1>(from, from_step, to, to_step, kVec);
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

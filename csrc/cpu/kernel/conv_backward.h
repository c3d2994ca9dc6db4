// SPDX-License-Identifier: Apache-2.0
// Gradients of the multi-branch grouped convolution by its input and its weights.
//
// The gradient by the outputs is not a tensor: produce(m, n, c, plane) computes one plane of it where it is needed.

// Of all branches.
struct BackwardPlans {
  ForwardPlan forward;
  BackwardPlan branch[kMaxBranches];
  int64_t dz_channel = 0;  // floats of a padded plane of dz, for whichever branch needs most
  explicit BackwardPlans(const ConvSet& set) {
    plan_forward(set.branch, set.branches, true, &forward);
    for (int m = 0; m < set.branches; ++m) {
      plan_backward(set.branch[m], &branch[m]);
      dz_channel = max_of(dz_channel, branch[m].layout.channel);
    }
  }
};

// A group after the other, with all that it reads in the second-level cache.
template <typename Produce>
static void conv_backward_by_group(const ConvSet& set, const BackwardPlans& plans, const float* x,
                                   const float* const* weight, float* dx, float* const* dweight, Produce&& produce) {
  const ConvShape& shape = set.branch[0];
  const int64_t hw_in = shape.h * shape.w, group_out = set.group_out(), channels = set.channels();
  const GroupWeightGradient weight_gradient(set, plans.forward, dweight);
  TapInputGradient input_gradient(set, plans.branch);
  if (dx != nullptr) input_gradient.pack(weight);
  // As many images at a time as fit a second-level cache.
  const int64_t x_image = weight_gradient.x_floats(), flat_image = weight_gradient.dz_floats();
  const int64_t dz_image = group_out * plans.dz_channel;
  const int64_t chunk = max_of(1, min_of(shape.n, 96 * 1024 / (x_image + dz_image + flat_image)));
  reserve_local(Local::kPlanes, chunk * x_image + weight_gradient.turning_floats());
  reserve_local(Local::kPlanesB, chunk * (dz_image + flat_image));
  reserve_local(Local::kSums, weight_gradient.sum_floats());
  parallel(shape.groups, [&](int64_t group, int worker) {
    float* planes = local_scratch(Local::kPlanes, worker);
    float* turning = planes + chunk * x_image;
    float* dz = local_scratch(Local::kPlanesB, worker);
    float* flat = dz + chunk * dz_image;
    float* row = local_scratch(Local::kRow, worker);
    float* sums = local_scratch(Local::kSums, worker);
    for (int64_t n0 = 0; n0 < shape.n; n0 += chunk) {
      const int64_t now = min_of(chunk, shape.n - n0);
      for (int m = 0; m < set.branches; ++m) {
        const PlaneLayout& layout = plans.branch[m].layout;
        for (int64_t i = 0; i < now; ++i) {
          float *x_at = planes + i * x_image, *flat_at = flat + i * flat_image;
          if (m == 0 || set.split) {
            weight_gradient.put_x(x + ((n0 + i) * channels + set.first_in(m, group)) * hw_in, turning, x_at);
          }
          for (int64_t co = 0; co < group_out; ++co) {
            float* plane = weight_gradient.place(co, turning, row);
            produce(m, n0 + i, group * group_out + co, plane);
            if (dx != nullptr) pad_plane(layout, plane, dz + i * dz_image + co * layout.channel);
            weight_gradient.put_dz(co, plane, turning, flat_at);
          }
          weight_gradient.add_image(m, x_at, flat_at, n0 + i == 0, sums);
        }
        weight_gradient.add_images(m, group, now, planes, flat);
        for (int64_t i = 0; i < now && dx != nullptr; ++i) {
          for (int64_t j = 0; j < input_gradient.targets().count(); ++j) {
            input_gradient.add(m, n0 + i, group, input_gradient.targets().at(j), dz + i * dz_image, dx, worker);
          }
        }
      }
    }
    weight_gradient.finish(group, sums);
  });
}

// Whole images, as many as the planes in flight allow. plain: in ways that know every value.
template <typename Produce>
static void conv_backward_by_image(const ConvSet& set, const BackwardPlans& plans, const float* x,
                                   const float* const* weight, float* dx, float* const* dweight, Produce&& produce,
                                   bool plain) {
  const ConvShape& shape = set.branch[0];
  const PlaneLayout& in = plans.forward.layout;
  const BackwardPlan* back = plans.branch;
  const int64_t hw_in = shape.h * shape.w, channels = set.channels();
  WeightGradient weight_gradient(set, plans.forward, plain, dweight);
  TapInputGradient input_gradient(set, back);
  bool fast = !plain;  // dx in Winograd's way
  for (int m = 0; m < set.branches; ++m) fast = fast && suits_winograd(transposed(set.branch[m]));
#ifdef SKNET_AMX
  bool dx_taps = !plain;
  for (int m = 0; m < set.branches; ++m) dx_taps = dx_taps && suits_input_taps(set.branch[m]);
  bool dx_tiles = !plain && set.branches == 1 && suits_tiles(transposed_1x1(shape));
#endif
  const int64_t pitch = weight_gradient.gapless() ? shape.w_out : in.pitch;
  const int64_t plane = ceil_div((shape.h_out - 1) * pitch + shape.w_out, kVec) * kVec;
  const bool x_direct = in.direct && hw_in % kVec == 0;
  const int64_t flat_image = set.branches * shape.c_out * plane, x_image = channels * (x_direct ? hw_in : in.channel);
  const int64_t chunk =
      max_of(1, min_of(shape.n, kChunkFloats / max_of(input_gradient.dz_image(), max_of(flat_image, x_image))));
  float* spread = shared_scratch(Shared::kPlanesB, chunk * flat_image);
  const bool wants_padded = !x_direct && weight_gradient.wants_padded();
  float* padded = wants_padded ? shared_scratch(Shared::kPlanesC, chunk * x_image) : nullptr;
  for (int64_t n0 = 0; n0 < shape.n; n0 += chunk) {
    const int64_t now = min_of(chunk, shape.n - n0), planes_out = set.branches * shape.c_out;
    parallel(now * planes_out, [&](int64_t task, int worker) {
      float* row = local_scratch(Local::kRow, worker);
      produce(static_cast<int>(task % planes_out / shape.c_out), n0 + task / planes_out, task % shape.c_out, row);
      spread_rows(row, shape.h_out, shape.w_out, pitch, plane, spread + task * plane);
    });
    if (padded != nullptr) {
      parallel(now * channels, [&](int64_t task, int) {
        if (!weight_gradient.wants_padded(task % channels)) return;
        pad_plane(in, x + (n0 * channels + task) * hw_in, padded + task * in.channel);
      });
    }
    bool made = dx == nullptr;
    if (!made && fast) made = fast = input_gradient_fast(set, n0, now, spread, plane, pitch, weight, dx);
#ifdef SKNET_AMX
    // Not again after a failure: its weights take the place of the plain ones.
    if (!made && dx_tiles) made = dx_tiles = input_gradient_tiles(set, n0, now, spread, plane, pitch, weight[0], dx);
    if (!made && dx_taps) made = dx_taps = input_gradient_taps(set, back, n0, now, spread, plane, pitch, weight, dx);
#endif
    if (!made) input_gradient.add_images(n0, now, spread, plane, pitch, weight, dx);
    weight_gradient.add({now, n0 == 0, x + n0 * channels * hw_in, padded, spread, plane, pitch});
  }
  if (!weight_gradient.finish()) conv_backward_by_image(set, plans, x, weight, dx, dweight, produce, true);
}

// x (n, c_in, h, w), dx like x or null, dweight[m] like weight[m].
template <typename Produce>
static void conv_backward(const ConvSet& set, const float* x, const float* const* weight, float* dx,
                          float* const* dweight, Produce&& produce) {
  const ConvShape& shape = set.branch[0];
  if (shape.n == 0) return clear_weights(set, dweight);
  reserve_local(Local::kRow, shape.h_out * shape.w_out + kVec);  // one plane of dz
  const BackwardPlans plans(set);
  if (set.by_group(plans.forward.layout.channel)) {
    conv_backward_by_group(set, plans, x, weight, dx, dweight, produce);
  } else {
    conv_backward_by_image(set, plans, x, weight, dx, dweight, produce, false);
  }
}

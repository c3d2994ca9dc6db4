// SPDX-License-Identifier: Apache-2.0
// The gradient of a grouped convolution by its weights, for all branches of one group after the other: as products of
// each image (group_product.h) where that suits, else as sums across vectors of some images (weight_pairs.h). Operands
// and sums are a worker's own.

class GroupWeightGradient {
 public:
  // dweight[m] like the weights.
  GroupWeightGradient(const ConvSet& set, const ForwardPlan& plan, float* const* dweight)
      : set_(set),
        plan_(plan),
        dweight_(dweight),
        products_(suits_group_product(set)),
        product_(GroupProduct::of(set, plan.layout)),
        vectors_(ceil_div((set.branch->h_out - 1) * plan.layout.pitch + set.branch->w_out, kVec)) {
    for (int m = 0; m < set.branches; ++m) {
      sums_at_[m] = sum_floats_;
      if (products_) sum_floats_ += product_.sum_floats(plan.taps[m].count);
    }
    if (!products_) clear_weights(set, dweight);
  }

  // Floats of an image's x and dz, of planes on their way there, and of the sums of all branches.
  int64_t x_floats() const { return products_ ? product_.x_floats() : set_.group_in() * plan_.layout.channel; }
  int64_t dz_floats() const { return products_ ? product_.dz_floats() : set_.group_out() * flat(); }
  int64_t turning_floats() const { return products_ ? max_of(kVec * plan_.layout.channel, product_.dz_floats()) : 0; }
  int64_t sum_floats() const { return sum_floats_ + product_.offset_floats(); }

  // The planes of x of a group of an image, from `from` on.
  void put_x(const float* from, [[maybe_unused]] float* turning, float* to) const {
    const PlaneLayout& in = plan_.layout;
    const int64_t hw = in.h * in.w;
    for (int64_t c = 0; c < set_.group_in(); ++c, from += hw) {
      const int64_t place = products_ ? c % kVec : c;
      pad_plane(in, from, (products_ ? turning : to) + place * in.channel);
#if SKNET_VEC > 1
      if (products_ && place + 1 == kVec) group_product_x(product_, turning, c + 1 - kVec, to);
#endif
    }
  }

  // Where plane co of dz is to be made, `row` if anywhere. put_dz: it is there; they come in order.
  float* place(int64_t co, float* turning, float* row) const {
    return products_ ? turning + co * product_.dz_plane : row;
  }
  void put_dz(int64_t co, const float* plane, [[maybe_unused]] const float* turning, float* to) const {
    if (!products_) {
      // With the rows of x: zero between them, so that the garbage of x counts for nothing.
      const ConvShape& s = *set_.branch;
      spread_rows(plane, s.h_out, s.w_out, plan_.layout.pitch, flat(), to + co * flat());
      return;
    }
#if SKNET_VEC > 1
    if (co + 1 == set_.group_out()) group_product_dz(product_, turning, to);
#endif
  }

  // Adds branch m of an image as soon as it is there; or else of `images` images, at distance x_floats() and
  // dz_floats(), as small maps must not pay for sums across vectors for every one.
  void add_image([[maybe_unused]] int m, [[maybe_unused]] const float* x, [[maybe_unused]] const float* dz,
                 [[maybe_unused]] bool first, [[maybe_unused]] float* sums) const {
#if SKNET_VEC > 1
    if (!products_) return;
    int64_t* columns = reinterpret_cast<int64_t*>(sums + sum_floats_);
    group_product_add(product_, plan_.taps[m], x, dz, first, columns, sums + sums_at_[m]);
#endif
  }
  void add_images(int m, int64_t group, int64_t images, const float* x, const float* dz) const {
    if (products_) return;
    const int64_t group_in = set_.group_in(), group_out = set_.group_out();
    const int64_t k2 = set_.branch[m].kernel * set_.branch[m].kernel, per_channel = group_in * k2;
    for (int64_t co = 0; co < group_out;) {
      const ChannelBlock b = weight_block_at(group_out, co);
      weight_pairs(plan_.taps[m], k2, 0, group_in * plan_.taps[m].count, x, plan_.layout.channel, x_floats(),
                   dz + co * flat(), flat(), dz_floats(), images, vectors_, b.size,
                   dweight_[m] + (group * group_out + co) * per_channel, per_channel);
      co += b.size;
    }
  }

  // The sums of a group -> dweight.
  void finish([[maybe_unused]] int64_t group, [[maybe_unused]] const float* sums) const {
#if SKNET_VEC > 1
    for (int m = 0; m < set_.branches && products_; ++m) {
      const int64_t k2 = set_.branch[m].kernel * set_.branch[m].kernel;
      group_product_finish(product_, plan_.taps[m], k2, sums + sums_at_[m],
                           dweight_[m] + group * set_.group_out() * set_.group_in() * k2);
    }
#endif
  }

 private:
  int64_t flat() const { return vectors_ * kVec; }

  const ConvSet& set_;
  const ForwardPlan& plan_;
  float* const* dweight_;
  const bool products_;
  const GroupProduct product_;
  const int64_t vectors_;  // of positions of padded x
  int64_t sums_at_[kMaxBranches], sum_floats_ = 0;
};

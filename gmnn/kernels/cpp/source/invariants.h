// From moments to invariants and back, a register's atoms at a time: the contractions of gmnn/model/descriptor.py, with
// the adjoint as in gmnn/kernels/invariants.py. V is a Vector of numbers, or Dual: then everything comes with its
// derivative along a direction. Rows of all arrays are STRIDE apart.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "vectors.h"

template <class T, class V, int STRIDE>
class Invariants {
  static constexpr int L = sizeof(V) / sizeof(T);
  static constexpr int PAIRS = 6;  // ab with a <= b
  static constexpr int A[PAIRS] = {0, 0, 0, 1, 1, 2}, B[PAIRS] = {0, 1, 2, 1, 2, 2};
  const int64_t n, pairs;
  std::vector<T> memory;
  T *grams[3], *mixed, *second, *by_second;  // [pairs, 6] by order; [n, n, 3]; [n, 6] M2 times multiplicity; dE/d of it

  // `at` is the component of rank `order` with first index c and the x-th of the other indices, of which there are
  // `others`; `often` is how often that occurs.
  static constexpr int others(int order) { return order == 1 ? 1 : order == 2 ? 3 : PAIRS; }
  static constexpr int at(int order, int c, int x) {
    return order == 1 ? 1 + c : order == 2 ? place(c, x) : place(c, A[x], B[x]);
  }
  static constexpr T often(int order, int x) { return order == 3 && A[x] != B[x] ? 2 : 1; }
  static V load(const T* from) { return loaded<V>(from); }
  static V get(const T* from, int64_t row) { return load(from + row * STRIDE); }

 public:
  explicit Invariants(int64_t n) : n(n), pairs(n * (n + 1) / 2), memory((18 * pairs + 3 * n * n + 12 * n) * L) {
    T* next = memory.data();
    auto take = [&](int64_t rows) { T* found = next; next += rows * L; return found; };
    for (T*& gram : grams) gram = take(6 * pairs);
    mixed = take(3 * n * n), second = take(6 * n), by_second = take(6 * n);
  }

  // Compute the features, in the order of descriptor.invariants, from moments [n, 20].
  void forward(const T* moments, T* features) {
    for (int64_t s = 0; s < n; ++s) {
      UNROLLED
      for (int x = 0; x < PAIRS; ++x)
        store(second + (s * PAIRS + x) * L, T(MULTIPLICITY[4 + x]) * get(moments, s * COMPONENTS + 4 + x));
      put(features, get(moments, s * COMPONENTS));
    }
    for_orders([&](auto order) {
      T* gram = grams[order - 1];
      for (int64_t r = 0; r < n; ++r)
        for (int64_t s = r; s < n; ++s, gram += PAIRS * L) put(features, product<order>(moments, r, s, gram));
    });
    for (int64_t r = 0, p = 0; r < n; ++r)
      for (int64_t s = r; s < n; ++s, ++p)
        for (int64_t t = s; t < n; ++t) put(features, with_second(grams[1], p, t));
    for (const T* gram : {grams[0], grams[2]})
      for (int64_t p = 0; p < pairs; ++p)
        for (int64_t t = 0; t < n; ++t) put(features, with_second(gram, p, t));
    for (int64_t r = 0; r < n; ++r)
      for (int64_t s = 0; s < n; ++s) {
        V sum[3] = {};
        UNROLLED
        for (int c = 0; c < 3; ++c)
          UNROLLED
          for (int x = 0; x < PAIRS; ++x)
            sum[c] += get(moments, r * COMPONENTS + at(3, c, x)) * load(second + (s * PAIRS + x) * L);
        UNROLLED
        for (int c = 0; c < 3; ++c) store(mixed + ((r * n + s) * 3 + c) * L, sum[c]);
        for (int64_t t = 0; t < n; ++t) {
          const T* dipole = moments + (t * COMPONENTS + 1) * STRIDE;
          put(features, sum[0] * get(dipole, 0) + sum[1] * get(dipole, 1) + sum[2] * get(dipole, 2));
        }
      }
  }

  // Compute dE/d(moment) [n, 20] from dE/d(feature), after `forward` on the same moments.
  void backward(const T* moments, const T* by_feature, T* by_moment) {
    std::fill(by_second, by_second + PAIRS * n * L, T(0));
    for (int64_t row = 0; row < n * COMPONENTS; ++row) store(by_moment + row * STRIDE, V{});
    for (int64_t s = 0; s < n; ++s) store(by_moment + s * COMPONENTS * STRIDE, get(by_feature, s));
    const T* traces = by_feature + n * STRIDE;
    const T* triples = traces + 3 * pairs * STRIDE;
    const T* with[3] = {triples + pairs * (n + 2) / 3 * STRIDE, triples, nullptr};
    with[2] = with[0] + pairs * n * STRIDE;
    for_orders([&](auto order) {
      const T* by = with[order - 1];
      for (int64_t r = 0, p = 0; r < n; ++r)
        for (int64_t s = r; s < n; ++s, ++p, traces += STRIDE) {
          const int64_t from = order == 2 ? s : 0;
          pull<order>(moments, r, s, grams[order - 1] + p * PAIRS * L, load(traces), by, from, by_moment);
          by += (n - from) * STRIDE;
        }
    });
    const T* by = with[2] + pairs * n * STRIDE;
    for (int64_t r = 0; r < n; ++r)
      for (int64_t s = 0; s < n; ++s, by += n * STRIDE) pull_mixed(moments, r, s, by, by_moment);
    for (int64_t s = 0; s < n; ++s)
      UNROLLED
      for (int x = 0; x < PAIRS; ++x)
        add(by_moment + (s * COMPONENTS + 4 + x) * STRIDE,
            T(MULTIPLICITY[4 + x]) * load(by_second + (s * PAIRS + x) * L));
  }

 private:
  template <class Do>
  static void for_orders(Do act) {
    act(std::integral_constant<int, 1>()), act(std::integral_constant<int, 2>()), act(std::integral_constant<int, 3>());
  }

  static void put(T*& to, V value) { store(to, value), to += STRIDE; }

  // Store the symmetric part of sum_x M_r,cx M_s,dx, six components; returns its trace.
  template <int order>
  static V product(const T* moments, int64_t r, int64_t s, T* gram) {
    const T *left = moments + r * COMPONENTS * STRIDE, *right = moments + s * COMPONENTS * STRIDE;
    V full[3][3] = {};
    UNROLLED
    for (int x = 0; x < others(order); ++x)
      UNROLLED
      for (int c = 0; c < 3; ++c) {
        const V one = often(order, x) * get(left, at(order, c, x));
        UNROLLED
        for (int d = 0; d < 3; ++d) full[c][d] += one * get(right, at(order, d, x));
      }
    UNROLLED
    for (int x = 0; x < PAIRS; ++x) store(gram + x * L, T(0.5) * (full[A[x]][B[x]] + full[B[x]][A[x]]));
    return full[0][0] + full[1][1] + full[2][2];
  }

  V with_second(const T* gram, int64_t p, int64_t t) const {
    V sum = {};
    UNROLLED
    for (int x = 0; x < PAIRS; ++x)
      sum += load(gram + (p * PAIRS + x) * L) * load(second + (t * PAIRS + x) * L);
    return sum;
  }

  // Add to the derivatives what comes from the trace of a pair and its products with M2_t, from <= t < n.
  template <int order>
  void pull(const T* moments, int64_t r, int64_t s, const T* gram, V trace, const T* by, int64_t from, T* by_moment) {
    V b[PAIRS] = {trace, V{}, V{}, trace, V{}, trace}, g[PAIRS];
    UNROLLED
    for (int x = 0; x < PAIRS; ++x) g[x] = load(gram + x * L);
    for (int64_t t = from; t < n; ++t, by += STRIDE) {
      const V d = load(by);
      UNROLLED
      for (int x = 0; x < PAIRS; ++x) {
        b[x] += d * load(second + (t * PAIRS + x) * L);
        add(by_second + (t * PAIRS + x) * L, d * g[x]);
      }
    }
    const V h[3] = {T(0.5) * b[1], T(0.5) * b[2], T(0.5) * b[4]};
    const V q[3][3] = {{b[0], h[0], h[1]}, {h[0], b[3], h[2]}, {h[1], h[2], b[5]}};
    const T *left = moments + r * COMPONENTS * STRIDE, *right = moments + s * COMPONENTS * STRIDE;
    T *by_left = by_moment + r * COMPONENTS * STRIDE, *by_right = by_moment + s * COMPONENTS * STRIDE;
    UNROLLED
    for (int x = 0; x < others(order); ++x) {
      V u[3], v[3];
      UNROLLED
      for (int c = 0; c < 3; ++c)
        u[c] = often(order, x) * get(left, at(order, c, x)), v[c] = often(order, x) * get(right, at(order, c, x));
      UNROLLED
      for (int c = 0; c < 3; ++c) {
        add(by_left + at(order, c, x) * STRIDE, q[c][0] * v[0] + q[c][1] * v[1] + q[c][2] * v[2]);
        add(by_right + at(order, c, x) * STRIDE, q[c][0] * u[0] + q[c][1] * u[1] + q[c][2] * u[2]);
      }
    }
  }

  // Add to the derivatives what comes from the products M3_r M2_s M1_t, 0 <= t < n.
  void pull_mixed(const T* moments, int64_t r, int64_t s, const T* by, T* by_moment) {
    V d[3] = {}, kept[3];
    UNROLLED
    for (int c = 0; c < 3; ++c) kept[c] = load(mixed + ((r * n + s) * 3 + c) * L);
    for (int64_t t = 0; t < n; ++t)
      UNROLLED
      for (int c = 0; c < 3; ++c) {
        const int64_t row = t * COMPONENTS + 1 + c;
        d[c] += get(by, t) * get(moments, row);
        add(by_moment + row * STRIDE, get(by, t) * kept[c]);
      }
    UNROLLED
    for (int x = 0; x < PAIRS; ++x) {
      V sum = {}, two = load(second + (s * PAIRS + x) * L);
      UNROLLED
      for (int c = 0; c < 3; ++c) {
        const int64_t row = r * COMPONENTS + at(3, c, x);
        sum += d[c] * get(moments, row);
        add(by_moment + row * STRIDE, d[c] * two);
      }
      add(by_second + (s * PAIRS + x) * L, sum);
    }
  }
};

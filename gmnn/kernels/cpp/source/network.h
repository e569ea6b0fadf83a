// The readout of ATOMS atoms: from features to the energy of every member, and back, as `network` of
// gmnn/kernels/readout.py.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "vectors.h"

inline float raised(float) { return 12582912.0f; }              // 1.5 * 2^23; adding it rounds to a whole number
inline double raised(double) { return 6755399441055744.0; }     // 1.5 * 2^52; the number is then in the lowest bits
inline int32_t shifted(float) { return 23; }
inline int64_t shifted(double) { return 52; }

// exp(x) to within rounding for |x| <= 80: 2^n times a Taylor series on +-ln(2) / 2.
template <class T>
inline Vector<T> exponential(Vector<T> x) {
  using Bits = typename Register<T>::Bits;
  constexpr int DEGREE = sizeof(T) == 4 ? 7 : 13;
  const Vector<T> lifted = x * T(1.4426950408889634) + raised(T()), n = lifted - raised(T());
  const Vector<T> r = (x - n * T(0.693145751953125)) - n * T(1.42860682030941723212e-6);
  Vector<T> sum = Vector<T>{} + T(1);
  UNROLLED
  for (int k = DEGREE; k > 0; --k) sum = T(1) + sum * r * (T(1) / k);
  return (Vector<T>)((Bits)sum + ((Bits)lifted << shifted(T())));
}

// 1 / (1 + exp(-x)); beyond +-80 the value at +-80.
template <class T>
inline Vector<T> sigmoid(Vector<T> x) {
  const Vector<T> most = Vector<T>{} + T(80);
  x = x > most ? most : x < -most ? -most : x;
  return T(1) / (T(1) + exponential<T>(-x));
}

// out [rows, ATOMS] = matrix times in [depth, ATOMS]. The matrix is [rows / TILE, depth, TILE], its rows rounded up.
template <class T>
inline void multiply(int64_t rows, int64_t depth, const T* matrix, const T* in, T* out) {
  constexpr int L = LANES<T>, V = ATOMS<T> / L;
  for (int64_t row = 0; row < rows; row += TILE, out += TILE * ATOMS<T>) {
    Vector<T> sum[TILE][V] = {};
    for (const T *at = in, *end = in + depth * ATOMS<T>; at < end; at += ATOMS<T>, matrix += TILE) {
      UNROLLED
      for (int r = 0; r < TILE; ++r) {
        UNROLLED
        for (int v = 0; v < V; ++v) sum[r][v] += matrix[r] * load(at + v * L);
      }
    }
    UNROLLED
    for (int r = 0; r < TILE; ++r) {
      UNROLLED
      for (int v = 0; v < V; ++v) store(out + r * ATOMS<T> + v * L, sum[r][v]);
    }
  }
}

constexpr int64_t whole_tiles(int64_t rows) { return (rows + TILE - 1) / TILE * TILE; }

template <class T>
struct Layer {
  const T *kernel, *transposed, *bias;  // [out, in] and [in, out], stored as for `multiply`; [out]
  int64_t out, in;
};

template <class T>
class Network {
  const std::vector<Layer<T>> layers;
  const bool bounded;
  std::vector<std::vector<T>> values, slopes;  // of every layer, [out, ATOMS]
  std::vector<T> back, next;

 public:
  Network(std::vector<Layer<T>> given, bool bounded) : layers(std::move(given)), bounded(bounded) {
    int64_t widest = 0;
    for (const auto& layer : layers) {
      values.emplace_back(whole_tiles(layer.out) * ATOMS<T>), slopes.emplace_back(layer.out * ATOMS<T>);
      widest = std::max({widest, whole_tiles(layer.out), whole_tiles(layer.in)});
    }
    back.resize(widest * ATOMS<T>), next.resize(widest * ATOMS<T>);
  }

  int64_t members() const { return layers.back().out; }
  const T* last_hidden() const { return values[layers.size() - 2].data(); }  // [H, ATOMS], after a call

  // Return the members' outputs [M, ATOMS]; the derivative of scale [ATOMS] times their mean replaces the features.
  const T* operator()(T* features, const T* scale) {
    constexpr int L = LANES<T>;
    const T* h = features;
    for (size_t k = 0; k < layers.size(); ++k) {
      const Layer<T>& layer = layers[k];
      const bool bends = bounded || k + 1 < layers.size();
      T *value = values[k].data(), *slope = slopes[k].data();
      multiply(layer.out, layer.in, layer.kernel, h, value);
      for (int64_t at = 0; at < layer.out * ATOMS<T>; at += L) {
        const Vector<T> x = load(value + at) + layer.bias[at / ATOMS<T>], s = sigmoid<T>(x);
        store(value + at, bends ? x * s : x);
        store(slope + at, bends ? s * (T(1) + x * (T(1) - s)) : Vector<T>{} + T(1));
      }
      h = value;
    }
    for (int64_t at = 0; at < members() * ATOMS<T>; ++at)
      back[at] = slopes.back()[at] * scale[at % ATOMS<T>] / T(members());
    for (size_t k = layers.size(); k-- > 0;) {
      const Layer<T>& layer = layers[k];
      T* to = k ? next.data() : features;
      multiply(layer.in, layer.out, layer.transposed, back.data(), to);
      for (int64_t at = 0; k && at < layer.in * ATOMS<T>; at += L)
        store(back.data() + at, load(slopes[k - 1].data() + at) * load(next.data() + at));
    }
    return values.back().data();
  }
};

// What grades are computed from, as gmnn/model/grade.py has it; the rows are stored as for `multiply`.
template <class T>
struct Distances {
  const T *center, *rows, *rest;  // [E, H], [E, tiles, H, TILE], [E]
  int64_t n_elements, width, padded;  // H, rows of an element rounded up to whole tiles

  // Store the grades of ATOMS atoms from their activations [H, ATOMS]; zero for atoms of a negative element.
  void operator()(const T* activations, const int64_t* elements, T* apart, T* shown, T* grades) const {
    constexpr int L = LANES<T>, V = ATOMS<T> / L;
    std::fill(grades, grades + ATOMS<T>, T(0));
    for (int64_t e = 0; e < n_elements; ++e) {
      if (std::find(elements, elements + ATOMS<T>, e) == elements + ATOMS<T>) continue;
      Vector<T> norm[V] = {}, inside[V] = {};
      for (int64_t h = 0; h < width; ++h) {
        UNROLLED
        for (int v = 0; v < V; ++v) {
          const Vector<T> far = load(activations + h * ATOMS<T> + v * L) - center[e * width + h];
          store(apart + h * ATOMS<T> + v * L, far), norm[v] += far * far;
        }
      }
      multiply(padded, width, rows + e * padded * width, apart, shown);
      for (int64_t k = 0; k < padded; ++k) {
        UNROLLED
        for (int v = 0; v < V; ++v) {
          const Vector<T> one = load(shown + k * ATOMS<T> + v * L);
          inside[v] += one * one;
        }
      }
      for (int a = 0; a < ATOMS<T>; ++a) {
        if (elements[a] != e) continue;
        const T square = rest[e] * norm[a / L][a % L] - inside[a / L][a % L];
        grades[a] = square < 0 ? T(0) : std::sqrt(square);  // NaN stays, to be seen
      }
    }
  }
};

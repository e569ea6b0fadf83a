// Invariants of moments and their adjoint for XLA, and the derivatives of both along a direction.
//
// gmnn/kernels/cpp/library.py compiles this file on first use and gmnn/kernels/cpp/invariants.py calls it; tests compare
// it with gmnn/model/descriptor.py.

#include "invariants.h"
#include "parts.h"

namespace ffi = xla::ffi;

namespace {

// Arrays of atoms, [count, 20 n] or [count, features]; null if there is none.
template <class T>
struct Arrays {
  const T *moments, *cotangents, *moments_along, *cotangents_along;
  T* found;
  int64_t channels, features;
};

// Put rows of up to LANES atoms side by side, zero for atoms beyond the last; `scatter` is the inverse.
template <class T>
void gather(const T* from, int64_t rows, int size, T* to, int step) {
  for (int a = 0; a < LANES<T>; ++a)
    for (int64_t row = 0; row < rows; ++row) to[row * step + a] = a < size ? from[a * rows + row] : 0;
}

template <class T>
void scatter(const T* from, int step, int64_t rows, int size, T* to) {
  for (int a = 0; a < size; ++a)
    for (int64_t row = 0; row < rows; ++row) to[a * rows + row] = from[row * step + a];
}

// Compute for the atoms from start to end their features, or the cotangents of moments from those of features; with
// V = Dual the derivative of either along the direction.
template <class T, class V>
void contract(const Arrays<T>& arrays, int64_t start, int64_t end) {
  constexpr int L = sizeof(V) / sizeof(T), ALONG = L - LANES<T>;
  const int64_t n = arrays.channels, M = n * COMPONENTS, F = arrays.features, out = arrays.cotangents ? M : F;
  Invariants<T, V, L> invariants(n);
  std::vector<T> moments(M * L), features(F * L), by_moment(M * L);
  for (int64_t at = start; at < end; at += LANES<T>) {
    const int size = int(std::min<int64_t>(LANES<T>, end - at));
    gather(arrays.moments + at * M, M, size, moments.data(), L);
    if (ALONG) gather(arrays.moments_along + at * M, M, size, moments.data() + ALONG, L);
    invariants.forward(moments.data(), features.data());
    if (arrays.cotangents) {
      gather(arrays.cotangents + at * F, F, size, features.data(), L);
      if (ALONG) gather(arrays.cotangents_along + at * F, F, size, features.data() + ALONG, L);
      invariants.backward(moments.data(), features.data(), by_moment.data());
    }
    const T* found = arrays.cotangents ? by_moment.data() : features.data();
    scatter(found + ALONG, L, out, size, arrays.found + at * out);
  }
}

template <ffi::DataType D>
ffi::Error called(ffi::ThreadPool pool, ffi::RemainingArgs given, int64_t channels, int64_t features, bool adjoint,
                  bool along, bool one_core, ffi::Result<ffi::Buffer<D>> found) {
  using T = ffi::NativeType<D>;
  const T* in[4] = {};
  for (size_t k = 0; k < given.size(); ++k) {
    auto array = given.get<ffi::Buffer<D>>(k);
    if (!array) return ffi::Error::InvalidArgument("arrays of different types");
    in[k] = array->typed_data();
  }
  const Arrays<T> arrays{in[0], adjoint ? in[1] : nullptr, in[adjoint ? 2 : 1], in[3], found->typed_data(), channels,
                         features};
  const int64_t count = found->element_count() / (adjoint ? channels * COMPONENTS : features);
  const int64_t blocks = (count + LANES<T> - 1) / LANES<T>;
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(one_core ? 1 : pool.num_threads(), blocks / 2));
  share_out(pool, parts, [&](int64_t part) {
    const int64_t start = blocks * part / parts * LANES<T>;
    const int64_t end = std::min(count, blocks * (part + 1) / parts * LANES<T>);
    if (along) contract<T, Dual<T>>(arrays, start, end);
    else contract<T, Vector<T>>(arrays, start, end);
  });
  return ffi::Error::Success();
}

template <ffi::DataType D>
auto binding() {
  return ffi::Ffi::Bind().template Ctx<ffi::ThreadPool>().RemainingArgs()
      .template Attr<int64_t>("channels").template Attr<int64_t>("features").template Attr<bool>("adjoint")
      .template Attr<bool>("along").template Attr<bool>("one_core").template Ret<ffi::Buffer<D>>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_invariants_float32, called<ffi::F32>, binding<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_invariants_float64, called<ffi::F64>, binding<ffi::F64>());

// The layers of the readout for XLA: what they find, its adjoint, and the derivatives of both along a direction.
//
// Compiled on first use by gmnn/kernels/cpp/library.py, called from gmnn/kernels/cpp/readout.py, tested equal to
// gmnn.model.readout. Threads share the columns of a product and meet where the next product needs all of them.

#include "network.h"
#include "panels.h"
#include "parts.h"

namespace ffi = xla::ffi;

namespace {

template <class T>
constexpr int64_t GROUP = 2 * COLUMNS<T>;  // of columns that a thread takes at a time

template <class T>
struct Dense {
  const T *kernel, *bias;  // [in, out], [out]
  int64_t in, out;
  T *by_kernel, *by_bias;
};

// What the atoms have at a hidden layer, [N, out] each.
template <class T>
struct Hidden {
  T *value, *slope, *curvature;  // of the swish
  T *value_along, *slope_along;
  T *cotangent, *back;  // of what goes into the swish and of what comes out of it
  T* cotangent_along;
};

template <class T>
struct Perceptron {
  int64_t atoms, last;  // number of atoms, of the last layer
  T gain;
  std::vector<Dense<T>> layers;
  std::vector<Hidden<T>> hidden;
  const T *features, *features_along, *by, *by_along;
  T *found;

  // f(row, column) for the registers of `columns` numbers from `first` on that there are.
  template <class F>
  static void registers(int64_t first, int64_t columns, F f) {
    constexpr int L = LANES<T>;
    if (first + 2 * L <= columns) return f(first, L), f(first + L, L);  // constants, so that nothing is asked twice
    for (int64_t at = first; at < columns; at += L) f(at, columns - at);
  }

  // use(place, column, width, sums) for the registers of a product [N, columns] of `in` [N, depth], from column `first`
  // on; fill(column, panel) packs the matrix.
  template <class Fill, class Use>
  void multiply(const T* in, int64_t depth, int64_t columns, int64_t first, Fill fill, Use use) const {
    constexpr int C = COLUMNS<T>;
    const int n = int(panels(std::min(columns - first, GROUP<T>), C));
    const auto packed = room<T>(n * depth);
    for (int p = 0; p < n; ++p) fill(first + p * C, packed.get() + p * depth * C);
    multiplied(in, atoms, depth, packed.get(), n, [&](int64_t atom, int p, const T* sums) {
      const int64_t start = first + p * C;
      registers(start, columns, [&](int64_t at, int64_t width) {
        use(atom * columns + at, at, width, load(sums + at - start));
      });
    });
  }

  void forward(size_t k, int64_t first) const {
    const Dense<T>& layer = layers[k];
    const auto fill = [&](int64_t at, T* to) { pack(layer.kernel + at, layer.out, layer.in, layer.out - at, to); };
    const auto use = [&](int64_t place, int64_t at, int64_t width, Vector<T> sums) {
      const Vector<T> x = sums + take(layer.bias + at, width);
      if (int64_t(k) == last) return keep(found + place, x, width);
      const Vector<T> s = sigmoid<T>(x), bent = gain * s * (T(1) - s);
      keep(hidden[k].value + place, gain * x * s, width);
      keep(hidden[k].slope + place, gain * s + x * bent, width);
      keep(hidden[k].curvature + place, bent * (T(2) + x * (T(1) - T(2) * s)), width);
    };
    multiply(k ? hidden[k - 1].value : features, layer.in, layer.out, first, fill, use);
  }

  void forward_along(size_t k, int64_t first) const {
    const Dense<T>& layer = layers[k];
    const auto fill = [&](int64_t at, T* to) { pack(layer.kernel + at, layer.out, layer.in, layer.out - at, to); };
    const auto use = [&](int64_t place, int64_t, int64_t width, Vector<T> moved) {
      if (int64_t(k) == last) return keep(found + place, moved, width);
      keep(hidden[k].value_along + place, take(hidden[k].slope + place, width) * moved, width);
      keep(hidden[k].slope_along + place, take(hidden[k].curvature + place, width) * moved, width);
    };
    multiply(k ? hidden[k - 1].value_along : features_along, layer.in, layer.out, first, fill, use);
  }

  void backward(size_t k, int64_t first, bool along) const {
    const Dense<T>& layer = layers[k];
    const bool at_last = int64_t(k) == last;
    const T* came = along ? at_last ? by_along : hidden[k].cotangent_along : at_last ? by : hidden[k].cotangent;
    const auto fill = [&](int64_t at, T* to) {
      pack_transposed(layer.kernel + at * layer.out, layer.out, layer.in - at, to);
    };
    const auto use = [&](int64_t place, int64_t, int64_t width, Vector<T> back) {
      if (!k) return keep(found + place, back, width);
      const Hidden<T>& below = hidden[k - 1];
      const Vector<T> passed = take(below.slope + place, width) * back;
      if (along) {
        const Vector<T> bent = take(below.slope_along + place, width) * take(below.back + place, width);
        return keep(below.cotangent_along + place, passed + bent, width);
      }
      keep(below.cotangent + place, passed, width);
      keep(below.back + place, back, width);
    };
    multiply(came, layer.out, layer.in, first, fill, use);
  }

  // d/d(along) of what the weights get: of inputs [N, in] and cotangents [N, out], each with its derivative.
  void weights_along(size_t k, int64_t first) const {
    const Dense<T>& layer = layers[k];
    constexpr int C = COLUMNS<T>;
    const bool at_last = int64_t(k) == last;
    const T *x = k ? hidden[k - 1].value : features, *x_along = k ? hidden[k - 1].value_along : features_along;
    const T *by_k = at_last ? by : hidden[k].cotangent, *by_k_along = at_last ? by_along : hidden[k].cotangent_along;
    const int n = int(panels(std::min(layer.out - first, GROUP<T>), C));
    const auto packed = room<T>(2 * n * atoms);
    T found[TILE * C];
    for (int p = 0; p < n; ++p) {
      const int64_t start = first + p * C, width = layer.out - start;
      T* to = packed.get() + 2 * p * atoms * C;
      pack(by_k + start, layer.out, atoms, width, to);
      pack(by_k_along + start, layer.out, atoms, width, to += atoms * C);
      Vector<T> sum[2] = {};
      for (int64_t at = 0; at < atoms * C; at += C) sum[0] += load(to + at), sum[1] += load(to + at + LANES<T>);
      registers(start, layer.out, [&](int64_t at, int64_t width) { keep(layer.by_bias + at, sum[at > start], width); });
    }
    for (int64_t row = 0; row < layer.in; row += TILE) {
      const T *at[TILE], *at_along[TILE];
      for (int r = 0; r < TILE; ++r) {
        const int64_t place = std::min(row + r, layer.in - 1);
        at[r] = x + place, at_along[r] = x_along + place;
      }
      for (int p = 0; p < n; ++p) {
        const T* panel = packed.get() + 2 * p * atoms * C;
        const int64_t start = first + p * C;
        Sum<T> sum;
        sum.add(at_along, layer.in, atoms, panel);
        sum.add(at, layer.in, atoms, panel + atoms * C);
        sum.put(found);
        for (int r = 0; r < TILE && row + r < layer.in; ++r)
          registers(start, layer.out, [&](int64_t column, int64_t width) {
            keep(layer.by_kernel + (row + r) * layer.out + column, load(found + r * C + column - start), width);
          });
      }
    }
  }
};

enum Task : int64_t { VALUES, VALUES_ALONG, ADJOINT, ADJOINT_ALONG };

// What is made together, by columns: one of the functions above, at one layer.
template <class T>
struct Product {
  void (*make)(const Perceptron<T>&, size_t, int64_t);
  size_t layer;
  int64_t columns;

  int64_t parts() const { return panels(columns, GROUP<T>); }
};

// One after the other, what may be made together.
template <class T>
std::vector<std::vector<Product<T>>> products(const std::vector<Dense<T>>& layers, int64_t task) {
  using Net = const Perceptron<T>&;
  const size_t n = layers.size();
  std::vector<std::vector<Product<T>>> phases;
  for (size_t k = 0; k < n && task == VALUES; ++k)
    phases.push_back({{[](Net net, size_t k, int64_t first) { net.forward(k, first); }, k, layers[k].out}});
  for (size_t k = 0; k < n && task == VALUES_ALONG; ++k)
    phases.push_back({{[](Net net, size_t k, int64_t first) { net.forward_along(k, first); }, k, layers[k].out}});
  for (size_t k = n; k-- > 0 && task == ADJOINT;)
    phases.push_back({{[](Net net, size_t k, int64_t first) { net.backward(k, first, false); }, k, layers[k].in}});
  for (size_t k = n; k-- > 0 && task == ADJOINT_ALONG;)
    phases.push_back({{[](Net net, size_t k, int64_t first) { net.backward(k, first, true); }, k, layers[k].in}});
  for (size_t k = 0; k < n && task == ADJOINT_ALONG; ++k)
    phases.back().push_back({[](Net net, size_t k, int64_t first) { net.weights_along(k, first); }, k, layers[k].out});
  return phases;
}

template <class T>
void run(ffi::ThreadPool& pool, int64_t threads, const Perceptron<T>& net, int64_t task) {
  const auto phases = products(net.layers, task);
  std::vector<int64_t> parts;
  for (const auto& phase : phases) {
    parts.push_back(0);
    for (const auto& product : phase) parts.back() += product.parts();
  }
  share_out(pool, threads, parts, [net, phases](int64_t phase, int64_t part) {
    for (const auto& product : phases[phase]) {
      if (part < product.parts()) return product.make(net, product.layer, part * GROUP<T>);
      part -= product.parts();
    }
  });
}

// Given: features [N, F], kernel and bias of every layer, and by the task
//   VALUES         nothing more                                            -> [N, M], kept, curvatures
//   VALUES_ALONG   kept, curvatures, features' direction                   -> [N, M], kept's direction
//   ADJOINT        kept, cotangents [N, M]                                 -> [N, F], what came back
//   ADJOINT_ALONG  kept, cotangents, what came back, directions of features, kept and cotangents
//                                                                          -> [N, F], kernels and biases, scratch
// Of every hidden layer in turn, [N, out] each: kept are value and slope, what came back are both cotangents.
template <ffi::DataType D>
ffi::Error called(ffi::ThreadPool pool, ffi::RemainingArgs given, int64_t task, int64_t n_layers, double gain,
                  bool one_core, ffi::RemainingRets results) {
  using T = ffi::NativeType<D>;
  std::vector<T*> in, out;
  for (size_t k = 0; k < given.size(); ++k) {
    auto array = given.get<ffi::Buffer<D>>(k);
    if (!array) return ffi::Error::InvalidArgument("arrays of different types");
    in.push_back(array->typed_data());
  }
  for (size_t k = 0; k < results.size(); ++k) out.push_back((*results.get<ffi::Buffer<D>>(k))->typed_data());
  Perceptron<T> net{};
  net.atoms = given.get<ffi::Buffer<D>>(0)->dimensions()[0], net.last = n_layers - 1, net.gain = T(gain);
  net.features = in[0], net.found = out[0];
  T *const *more = in.data() + 1 + 2 * n_layers, *kept = nullptr, *curvature = nullptr, *kept_along = nullptr;
  T *came = nullptr, *scratch = nullptr;
  if (task == VALUES) kept = out[1], curvature = out[2];
  if (task == VALUES_ALONG) kept = more[0], curvature = more[1], net.features_along = more[2], kept_along = out[1];
  if (task == ADJOINT) kept = more[0], net.by = more[1], came = out[1];
  if (task == ADJOINT_ALONG) {
    kept = more[0], net.by = more[1], came = more[2], net.features_along = more[3], kept_along = more[4];
    net.by_along = more[5], scratch = out.back();
  }
  for (int64_t k = 0, at = 0; k < n_layers; ++k) {
    const auto shape = given.get<ffi::Buffer<D>>(1 + 2 * k)->dimensions();
    T *const *weights = task == ADJOINT_ALONG ? out.data() + 1 + 2 * k : in.data();  // of other tasks not written
    net.layers.push_back({in[1 + 2 * k], in[2 + 2 * k], shape[0], shape[1], weights[0], weights[1]});
    if (k == net.last) break;
    const int64_t size = net.atoms * shape[1];
    T *two[] = {kept + 2 * at, kept_along + 2 * at, came + 2 * at};
    net.hidden.push_back({two[0], two[0] + size, curvature + at, two[1], two[1] + size, two[2], two[2] + size,
                          scratch + at});
    at += size;
  }
  run(pool, one_core ? 1 : pool.num_threads(), net, task);
  return ffi::Error::Success();
}

template <ffi::DataType D>
auto binding() {
  return ffi::Ffi::Bind().template Ctx<ffi::ThreadPool>().RemainingArgs().template Attr<int64_t>("task")
      .template Attr<int64_t>("n_layers").template Attr<double>("gain").template Attr<bool>("one_core").RemainingRets();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_readout_float32, called<ffi::F32>, binding<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_readout_float64, called<ffi::F64>, binding<ffi::F64>());

// Energies, forces and virials of atoms for XLA on the cores of a CPU, each of which takes ATOMS at a time.
//
// gmnn/kernels/cpp/predict.py compiles this file on first use; tests compare it with gmnn/kernels/xla.py, which has the
// formulas.

#include "invariants.h"
#include "network.h"
#include "parts.h"
#include "slots.h"

namespace ffi = xla::ffi;

namespace {

template <class T>
struct Readout {
  std::vector<Layer<T>> layers;
  bool bounded;
  const T *scale, *shift;  // [E] eV
  const T* bound;          // [E], null if moments are not bounded
  Distances<T> distances;  // centre null if no grades are asked for
};

template <class T>
struct Found {
  T *members, *forces, *virials, *grades;  // [rows, M] eV, [N, 3] eV/Å, [rows, 9] eV, [rows]
};

// The bound of the moments [n, 20] of ATOMS atoms; it keeps the factor and the square of the bound.
template <class T>
struct Bounds {
  T factor[ATOMS<T>], room[ATOMS<T>];

  void forward(int64_t n, const T* raw, T* moments) {
    for (int v = 0; v < ATOMS<T>; v += LANES<T>) {
      Vector<T> norm = {};
      each(n, v, [&](int64_t at, T weight) { norm += weight * load(raw + at) * load(raw + at); });
      for (int a = 0; a < LANES<T>; ++a) factor[v + a] = 1 / std::sqrt(1 + norm[a] / room[v + a]);
      each(n, v, [&](int64_t at, T) { store(moments + at, load(raw + at) * load(factor + v)); });
    }
  }

  void backward(int64_t n, const T* raw, T* by) const {
    for (int v = 0; v < ATOMS<T>; v += LANES<T>) {
      const Vector<T> shrink = load(factor + v);
      Vector<T> along = {};
      each(n, v, [&](int64_t at, T) { along += load(raw + at) * load(by + at); });
      along = along * shrink * shrink * shrink / load(room + v);
      each(n, v, [&](int64_t at, T weight) {
        store(by + at, load(by + at) * shrink - along * weight * load(raw + at));
      });
    }
  }

 private:
  template <class Do>
  static void each(int64_t n, int v, Do act) {
    for (int64_t row = 0; row < n * COMPONENTS; ++row) act(row * ATOMS<T> + v, T(MULTIPLICITY[row % COMPONENTS]));
  }
};

template <class T, int W>
void evaluate(const Given<T>& given, const Readout<T>& readout, const int32_t* rows, int64_t count, Found<T> found) {
  const int64_t n = given.n_radial(), M = readout.layers.back().out, F = readout.layers[0].in;
  std::vector<Slots<T, W>> slots;
  slots.reserve(ATOMS<T>);
  for (int a = 0; a < ATOMS<T>; ++a) slots.emplace_back(given);
  Scratch<T> scratch(slots[0].room_for(given.slots), given.channels);
  std::vector<Invariants<T, Vector<T>, ATOMS<T>>> invariants;
  invariants.reserve(ATOMS<T> / LANES<T>);
  for (int v = 0; v < ATOMS<T>; v += LANES<T>) invariants.emplace_back(n);
  Network<T> network(readout.layers, readout.bounded);
  std::vector<T> raw(n * COMPONENTS * ATOMS<T>), bounded(raw.size()), by_moment(raw.size());
  std::vector<T> features(whole_tiles(F) * ATOMS<T>);
  const Distances<T>& distances = readout.distances;
  std::vector<T> apart(distances.width * ATOMS<T>), shown(distances.padded * ATOMS<T>);
  std::fill(found.forces, found.forces + 3 * given.atoms, T(0));
  std::fill(found.virials, found.virials + 9 * count, T(0));
  for (int64_t start = 0; start < count; start += ATOMS<T>) {
    T scale[ATOMS<T>] = {}, shift[ATOMS<T>] = {};
    int64_t elements[ATOMS<T>];
    Bounds<T> bounds;
    const int size = int(std::min<int64_t>(ATOMS<T>, count - start));
    std::fill(raw.begin(), raw.end(), T(0));
    for (int a = 0; a < ATOMS<T>; ++a) {
      bounds.room[a] = 1, elements[a] = -1;
      if (a >= size || !given.real(rows[start + a])) continue;
      const int64_t i = rows[start + a], e = given.elements[i];
      slots[a].find(i);
      const T repulsion = slots[a].moments(scratch, raw.data() + a, ATOMS<T>);
      elements[a] = e, scale[a] = readout.scale[e], shift[a] = readout.shift[e] + repulsion;
      if (readout.bound) bounds.room[a] = readout.bound[e] * readout.bound[e];
    }
    const T* moments = raw.data();
    if (readout.bound) bounds.forward(n, raw.data(), bounded.data()), moments = bounded.data();
    int v = 0;
    for (auto& some : invariants) some.forward(moments + v, features.data() + v), v += LANES<T>;
    const T* psi = network(features.data(), scale);
    if (distances.center) {
      T grades[ATOMS<T>];
      distances(network.last_hidden(), elements, apart.data(), shown.data(), grades);
      std::copy(grades, grades + size, found.grades + start);
    }
    v = 0;
    for (auto& some : invariants) some.backward(moments + v, features.data() + v, by_moment.data() + v), v += LANES<T>;
    if (readout.bound) bounds.backward(n, raw.data(), by_moment.data());
    for (int a = 0; a < size; ++a) {
      const int64_t at = start + a;
      for (int64_t m = 0; m < M; ++m) found.members[at * M + m] = scale[a] * psi[m * ATOMS<T> + a] + shift[a];
      if (given.real(rows[at]))
        slots[a].forces(scratch, rows[at], by_moment.data() + a, ATOMS<T>, found.forces, found.virials + 9 * at);
    }
  }
}

// Evaluate rows in as many parts as there are threads. Each part has its own forces, which are summed in order.
template <class T, int W>
void evaluate_in_parts(ffi::ThreadPool& pool, bool one_core, const Given<T>& given, const Readout<T>& readout,
                       const int32_t* rows, int64_t count, const Found<T>& found) {
  const int64_t blocks = (count + ATOMS<T> - 1) / ATOMS<T>, M = readout.layers.back().out;
  const int64_t threads = one_core ? 1 : pool.num_threads(), parts = std::max<int64_t>(1, std::min(threads, blocks));
  std::vector<T> forces(3 * given.atoms * (parts - 1));
  share_out(pool, parts, [&](int64_t part) {
    const int64_t start = blocks * part / parts * ATOMS<T>, end = blocks * (part + 1) / parts * ATOMS<T>;
    const Found<T> mine{found.members + start * M, part ? forces.data() + 3 * given.atoms * (part - 1) : found.forces,
                        found.virials + 9 * start, found.grades + start};
    evaluate<T, W>(given, readout, rows + start, std::min(end, count) - start, mine);
  });
  for (size_t at = 0; at < forces.size(); ++at) found.forces[at % (3 * given.atoms)] += forces[at];
}

template <ffi::DataType D>
using Numbers = ffi::Buffer<D>;
using Places = ffi::Buffer<ffi::S32>;

template <ffi::DataType D>
ffi::Error called(ffi::ThreadPool pool, Numbers<D> positions, Places elements, Numbers<D> cells, Places neighbors,
                  Places shifts, Places rows, Numbers<D> table, Numbers<D> scale, Numbers<D> shift, Numbers<D> bound,
                  Numbers<D> center, Numbers<D> distances, Numbers<D> rest, ffi::RemainingArgs readout, int64_t per_system, double r_max, double unit_offset,
                  bool bounded_readout, bool bounded_moments, bool one_core, ffi::Result<Numbers<D>> members,
                  ffi::Result<Numbers<D>> forces, ffi::Result<Numbers<D>> virials, ffi::Result<Numbers<D>> grades) {
  using T = ffi::NativeType<D>;
  const int64_t n_elements = scale.element_count(), channels = table.dimensions()[1] / 4;
  const Given<T> given{
      positions.typed_data(), elements.typed_data(), cells.typed_data(), neighbors.typed_data(), shifts.typed_data(),
      table.typed_data(), positions.dimensions()[0], neighbors.dimensions()[0], neighbors.dimensions()[1], per_system,
      n_elements, table.dimensions()[0] / (n_elements * n_elements) - 1, channels, T(r_max), T(unit_offset)};
  std::vector<Layer<T>> layers;
  for (size_t k = 0; k + 2 < readout.size(); k += 3) {
    auto kernel = readout.get<Numbers<D>>(k), transposed = readout.get<Numbers<D>>(k + 1);
    auto bias = readout.get<Numbers<D>>(k + 2);
    if (!kernel || !transposed || !bias) return ffi::Error::InvalidArgument("a layer of another type");
    layers.push_back({kernel->typed_data(), transposed->typed_data(), bias->typed_data(),
                      int64_t(bias->element_count()), kernel->dimensions()[1]});
  }
  const int64_t n = channels - 2, pairs = n * (n + 1) / 2;  // features as descriptor.feature_counts has them
  if (layers[0].in != n + 3 * pairs + pairs * (n + 2) / 3 + 2 * pairs * n + n * n * n)
    return ffi::Error::InvalidArgument("the readout takes another number of invariants than are computed here");
  Distances<T> to_grade{};
  if (rest.element_count()) {
    const int64_t width = layers[layers.size() - 2].out;
    to_grade = {center.typed_data(), distances.typed_data(), rest.typed_data(), n_elements, width,
                int64_t(distances.element_count()) / (n_elements * width)};
  }
  const Readout<T> all{layers, bounded_readout, scale.typed_data(), shift.typed_data(),
                       bounded_moments ? bound.typed_data() : nullptr, to_grade};
  const Found<T> found{members->typed_data(), forces->typed_data(), virials->typed_data(), grades->typed_data()};
  const int32_t* which = rows.typed_data();
  const int64_t count = rows.element_count();
  if (channels <= 8) evaluate_in_parts<T, 8>(pool, one_core, given, all, which, count, found);
  else if (channels <= 16) evaluate_in_parts<T, 16>(pool, one_core, given, all, which, count, found);
  else return ffi::Error::InvalidArgument("more than 14 radial channels");
  return ffi::Error::Success();
}

template <ffi::DataType D>
auto binding() {
  using N = Numbers<D>;
  return ffi::Ffi::Bind().template Ctx<ffi::ThreadPool>()
      .template Arg<N>().template Arg<Places>().template Arg<N>().template Arg<Places>().template Arg<Places>()
      .template Arg<Places>().template Arg<N>().template Arg<N>().template Arg<N>().template Arg<N>()
      .template Arg<N>().template Arg<N>().template Arg<N>().RemainingArgs()
      .template Attr<int64_t>("per_system").template Attr<double>("r_max").template Attr<double>("unit_offset")
      .template Attr<bool>("bounded_readout").template Attr<bool>("bounded_moments").template Attr<bool>("one_core")
      .template Ret<N>().template Ret<N>().template Ret<N>().template Ret<N>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_float32, called<ffi::F32>, binding<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(gmnn_float64, called<ffi::F64>, binding<ffi::F64>());

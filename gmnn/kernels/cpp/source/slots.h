// The slots of an atom: from their vectors to moments, and from the derivative by moments to forces.
//
// Slots within the cutoff are packed; then every loop runs over these in vector registers, except for the tables, where
// a row is read across its channels. Formulas are as in `_block` of gmnn/kernels/xla.py, tables as in
// gmnn/kernels/tables.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "vectors.h"

template <class T>
struct Given {
  const T* positions;       // [N, 3] Å
  const int32_t* elements;  // [N], negative for no atom
  const T* cells;           // [B, 3, 3] Å
  const int32_t* neighbors;  // [centres, K], N or more for an empty slot
  const int32_t* shifts;     // [centres, K, 3]
  const T* table;            // [E E (intervals + 1), 4, channels]
  int64_t atoms, centres, slots, per_system, n_elements, intervals, channels;
  T r_max, offset;
  int64_t n_radial() const { return channels - 2; }
  bool real(int64_t i) const { return i < centres && elements[i] >= 0; }
};

// Data of the slots of the current atom, [.][n]: monomials of the directions, these times the gate, and functions and
// slopes by channel.
template <class T>
struct Scratch {
  std::vector<T> memory;
  T *monomial, *shown, *value, *slope;

  Scratch(int64_t room, int64_t channels) : memory(room * 2 * (COMPONENTS + channels)) {
    monomial = memory.data(), shown = monomial + COMPONENTS * room;
    value = shown + COMPONENTS * room, slope = value + channels * room;
  }
};

// The slots of one atom within the cutoff, [.][n], W >= channels.
template <class T, int W>
class Slots {
  static constexpr int L = LANES<T>;
  const Given<T>& given;
  const int64_t room, n_radial;
  int count = 0, padded = 0;  // functions of padding are zero
  std::vector<T> memory, nothing;
  std::vector<int32_t> neighbor;
  T *x, *y, *z, *inverse, *shorter, *gate, *values, *slopes;

 public:
  static int64_t room_for(int64_t slots) { return (slots + L - 1) / L * L; }

  explicit Slots(const Given<T>& given)
      : given(given), room(room_for(given.slots)), n_radial(given.n_radial()), memory(room * (6 + 2 * W)),
        nothing(4 * given.channels + W), neighbor(room) {
    T* next = memory.data();
    for (T** one : {&x, &y, &z, &inverse, &shorter, &gate}) *one = next, next += room;
    values = next, slopes = next + W * room;
  }

  // Find the slots of atom i: vectors, distances, functions.
  void find(int64_t i) {
    pack(i);
    const T scale = T(given.intervals) / given.r_max, offset = given.offset;
    for (int k = 0; k < padded; k += L) {
      const Vector<T> r = root<T>(load(x + k) * load(x + k) + load(y + k) * load(y + k) + load(z + k) * load(z + k));
      store(inverse + k, T(1) / r), store(shorter + k, T(1) / (r + offset)), store(gate + k, r * scale);
    }
    look_up(i, scale);
  }

  // Store the moments to[s * 20 + c] of the atom, a stride apart; returns its share of the repulsion, eV.
  T moments(Scratch<T>& scratch, T* to, int64_t stride) const {
    multiply_out(scratch);
    constexpr int V = W / L, SIZE = V == 1 ? 10 : V == 2 ? 5 : 2;  // some ten sums in registers
    for (int first = 0; first < COMPONENTS; first += SIZE) {
      const T *shown = scratch.shown + first * room, *functions = values;
      Vector<T> sum[SIZE][V] = {};
      for (int k = 0; k < padded; ++k, functions += W) {
        UNROLLED
        for (int c = 0; c < SIZE; ++c) {
          UNROLLED
          for (int v = 0; v < V; ++v) sum[c][v] += shown[c * room + k] * load(functions + v * L);
        }
      }
      UNROLLED
      for (int c = 0; c < SIZE; ++c)
        for (int64_t s = 0; s < n_radial; ++s) to[(s * COMPONENTS + first + c) * stride] = sum[c][s / L][s % L];
    }
    T repulsion = 0;
    for (int k = 0; k < count; ++k) repulsion += values[k * W + n_radial + 1] * inverse[k];
    return repulsion / 2;
  }

  // Add to forces [N, 3] what atom i and its slots feel, from dE/d(moment) in the layout of `moments`, and store its
  // virial, eV. The data of the slots is overwritten.
  void forces(Scratch<T>& scratch, int64_t i, const T* by_moment, int64_t stride, T* forces, T* virial) {
    multiply_out(scratch);
    for (int64_t c = 0; c < given.channels; ++c) {
      T *value = scratch.value + c * room, *slope = scratch.slope + c * room;
      for (int k = 0; k < padded; ++k) value[k] = values[k * W + c], slope[k] = slopes[k * W + c];
    }
    T by[W * COMPONENTS];
    for (int64_t c = 0; c < n_radial * COMPONENTS; ++c) by[c] = by_moment[c * stride];
    for (int k = 0; k < padded; k += L) gradient(scratch, by, k);
    T own[3] = {}, sum[9] = {};
    for (int k = 0; k < count; ++k) {
      const T g[3] = {gate[k], shorter[k], inverse[k]}, r[3] = {x[k], y[k], z[k]};
      T* other = forces + 3 * neighbor[k];
      for (int a = 0; a < 3; ++a) {
        own[a] += g[a], other[a] -= g[a];
        for (int b = 0; b < 3; ++b) sum[3 * a + b] += r[a] * g[b];
      }
    }
    for (int a = 0; a < 3; ++a) forces[3 * i + a] += own[a];
    std::copy(sum, sum + 9, virial);
  }

 private:
  void multiply_out(Scratch<T>& scratch) const {
    T *monomial = scratch.monomial, *shown = scratch.shown;
    for (int k = 0; k < padded; k += L) {
      const Vector<T> by = load(shorter + k), g = load(gate + k);
      const Vector<T> ux = load(x + k) * by, uy = load(y + k) * by, uz = load(z + k) * by;
      const Vector<T> xx = ux * ux, xy = ux * uy, xz = ux * uz, yy = uy * uy, yz = uy * uz, zz = uz * uz;
      const Vector<T> all[] = {ux, uy, uz, xx, xy, xz, yy, yz, zz, xx * ux, xx * uy, xx * uz, xy * uy, xy * uz,
                               xz * uz, yy * uy, yy * uz, yz * uz, zz * uz};
      store(shown + k, Vector<T>{} + T(1));
      UNROLLED
      for (int c = 1; c < COMPONENTS; ++c)
        store(monomial + c * room + k, all[c - 1]), store(shown + c * room + k, all[c - 1] * g);
    }
  }

  void pack(int64_t i) {
    const T *own = given.positions + 3 * i, *cell = given.cells + 9 * (i / given.per_system);
    const int32_t *neighbors = given.neighbors + i * given.slots, *shifts = given.shifts + 3 * i * given.slots;
    const T far = given.r_max * given.r_max, *positions = given.positions;
    const int64_t atoms = given.atoms, slots = given.slots;
    T *to_x = x, *to_y = y, *to_z = z;
    int32_t* to = neighbor.data();
    int n = 0;
    for (int64_t k = 0; k < slots; ++k) {
      const int32_t j = neighbors[k];
      if (j >= atoms || given.elements[j] < 0) continue;
      const T a = T(shifts[3 * k]), b = T(shifts[3 * k + 1]), c = T(shifts[3 * k + 2]);
      const T* there = positions + 3 * int64_t(j);
      const T dx = there[0] + (a * cell[0] + b * cell[3] + c * cell[6]) - own[0];
      const T dy = there[1] + (a * cell[1] + b * cell[4] + c * cell[7]) - own[1];
      const T dz = there[2] + (a * cell[2] + b * cell[5] + c * cell[8]) - own[2];
      to_x[n] = dx, to_y[n] = dy, to_z[n] = dz, to[n] = j;
      const T square = dx * dx + dy * dy + dz * dz;
      n += !(square >= far && square <= std::numeric_limits<T>::max());  // NaN and infinity stay, to be seen
    }
    count = n, padded = (n + L - 1) / L * L;
    for (int k = n; k < padded; ++k) to_x[k] = given.r_max, to_y[k] = to_z[k] = 0;
  }

  // Look up functions and slopes by r; what is read beyond the channels belongs to the next power or row and is unused.
  void look_up(int64_t i, T scale) {
    const int64_t C = given.channels, last = given.intervals - 1, pair = 4 * C * (given.intervals + 1);
    const T* tables = given.table + given.elements[i] * given.n_elements * pair;
    T *value = values, *slope = slopes;
    for (int k = 0; k < padded; ++k, value += W, slope += W) {
      const int64_t at = std::clamp<int64_t>(int64_t(gate[k]), 0, last);
      const T *c = k < count ? tables + given.elements[neighbor[k]] * pair + at * 4 * C : nothing.data(),
              u = gate[k] - T(at);
      UNROLLED
      for (int l = 0; l < W; l += L) {
        const Vector<T> c1 = load(c + C + l), c2 = load(c + 2 * C + l), c3 = load(c + 3 * C + l);
        store(value + l, load(c + l) + u * (c1 + u * (c2 + u * c3)));
        store(slope + l, scale * (c1 + u * (T(2) * c2 + (T(3) * u) * c3)));
      }
      gate[k] = value[n_radial];
    }
  }

  // Compute dE/d(vector) of a register's slots; it replaces gate, shorter and inverse.
  void gradient(const Scratch<T>& scratch, const T* by, int k) {
    const T *value = scratch.value, *slope = scratch.slope, *shown = scratch.shown, *monomial = scratch.monomial;
    Vector<T> q[COMPONENTS] = {}, radial = {};  // dE/d(gated monomial), dE/dr at a fixed direction
    for (int64_t s = 0; s < n_radial; ++s) {
      Vector<T> sum = {}, function = load(value + s * room + k);
      UNROLLED
      for (int c = 0; c < COMPONENTS; ++c) {
        const T d = by[s * COMPONENTS + c];
        sum += d * load(shown + c * room + k), q[c] += d * function;
      }
      radial += load(slope + s * room + k) * sum;
    }
    Vector<T> by_gate = {}, m[10];
    UNROLLED
    for (int c = 1; c < COMPONENTS; ++c) by_gate += q[c] * load(monomial + c * room + k);
    UNROLLED
    for (int c = 1; c < 10; ++c) m[c] = load(monomial + c * room + k);
    const T two = 2, three = 3;
    const Vector<T> at = load(gate + k) * load(shorter + k), over = load(inverse + k);
    const Vector<T> dx = at * (q[1] + two * q[4] * m[1] + q[5] * m[2] + q[6] * m[3] + three * q[10] * m[4] +
                               two * (q[11] * m[5] + q[12] * m[6]) + q[13] * m[7] + q[14] * m[8] + q[15] * m[9]);
    const Vector<T> dy = at * (q[2] + q[5] * m[1] + two * q[7] * m[2] + q[8] * m[3] + q[11] * m[4] +
                               two * (q[13] * m[5] + q[17] * m[8]) + q[14] * m[6] + three * q[16] * m[7] +
                               q[18] * m[9]);
    const Vector<T> dz = at * (q[3] + q[6] * m[1] + q[8] * m[2] + two * q[9] * m[3] + q[12] * m[4] + q[14] * m[5] +
                               two * (q[15] * m[6] + q[18] * m[8]) + q[17] * m[7] + three * q[19] * m[9]);
    const Vector<T> repulsion = load(value + (n_radial + 1) * room + k) * over;
    radial += load(slope + n_radial * room + k) * by_gate;
    radial += T(0.5) * (load(slope + (n_radial + 1) * room + k) - repulsion) * over;
    radial = (radial - (m[1] * dx + m[2] * dy + m[3] * dz)) * over;
    store(gate + k, radial * load(x + k) + dx);
    store(shorter + k, radial * load(y + k) + dy);
    store(inverse + k, radial * load(z + k) + dz);
  }
};

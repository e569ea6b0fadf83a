// Vectors of a register's numbers, and the layout of packed symmetric tensors that every part uses.
#pragma once

#include <cmath>
#include <cstdint>

constexpr int COMPONENTS = 20;  // (), x, y, z, xx, xy, xz, yy, yz, zz, xxx, xxy, xxz, xyy, xyz, xzz, yyy, yyz, yzz, zzz
constexpr int MULTIPLICITY[COMPONENTS] = {1, 1, 1, 1, 1, 2, 2, 1, 2, 1, 1, 3, 3, 3, 6, 3, 1, 3, 3, 1};

#define UNROLLED _Pragma("GCC unroll 32")  // before a loop whose arrays are to stay in registers

template <class T>
struct Register;
template <>
struct Register<float> {
  typedef float Numbers __attribute__((vector_size(32)));
  typedef float Anywhere __attribute__((vector_size(32), aligned(4)));
  typedef int32_t Bits __attribute__((vector_size(32)));
};
template <>
struct Register<double> {
  typedef double Numbers __attribute__((vector_size(32)));
  typedef double Anywhere __attribute__((vector_size(32), aligned(8)));
  typedef int64_t Bits __attribute__((vector_size(32)));
};
template <class T>
using Vector = typename Register<T>::Numbers;
template <class T>
constexpr int LANES = 32 / sizeof(T);
template <class T>
constexpr int ATOMS = 2 * LANES<T>;  // evaluated together
constexpr int TILE = 6;              // rows of a matrix that are multiplied together: 12 sums of atoms in registers

template <class T>
inline Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename Register<T>::Anywhere*>(from);
}

template <class T>
inline void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename Register<T>::Anywhere*>(to) = value;
}

// Numbers and their derivatives along a direction, one register after the other in memory.
template <class T>
struct Dual {
  Vector<T> value, along;

  Dual& operator+=(const Dual& other) {
    value += other.value, along += other.along;
    return *this;
  }
  friend Dual operator+(Dual a, const Dual& b) { return a += b; }
  friend Dual operator*(const Dual& a, const Dual& b) {
    return {a.value * b.value, a.value * b.along + a.along * b.value};
  }
  friend Dual operator*(T factor, const Dual& a) { return {factor * a.value, factor * a.along}; }
};

template <class T>
inline void store(T* to, const Dual<T>& dual) {
  store(to, dual.value), store(to + LANES<T>, dual.along);
}

template <class V, class T>
inline V loaded(const T* from) {
  if constexpr (sizeof(V) == sizeof(Vector<T>)) return load(from);
  else return {load(from), load(from + LANES<T>)};
}

template <class T, class V>
inline void add(T* to, const V& value) {
  store(to, loaded<V>(to) + value);
}

template <class T>
inline Vector<T> root(Vector<T> x) {
  UNROLLED
  for (int l = 0; l < LANES<T>; ++l) x[l] = std::sqrt(x[l]);
  return x;
}

// Places of components by their indices, as gmnn.model.descriptor.component.
constexpr int place(int a, int b) { return a > b ? place(b, a) : 4 + a * (7 - a) / 2 + b - a; }
constexpr int place(int a, int b, int c) {
  if (a > b) return place(b, a, c);
  if (b > c) return place(a, c, b);
  return a == 0 ? place(b, c) + 6 : a == 2 ? 19 : 16 + (b == 1 ? c - 1 : 2);
}

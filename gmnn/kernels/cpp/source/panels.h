// Products of matrices by panels: COLUMNS of what is found at a time, the matrix's columns packed side by side.
#pragma once

#include <algorithm>
#include <memory>

#include "vectors.h"

template <class T>
constexpr int COLUMNS = 2 * LANES<T>;

inline constexpr int64_t panels(int64_t columns, int width) { return (columns + width - 1) / width; }

// Room for a panel.
template <class T>
std::unique_ptr<T[]> room(int64_t rows) {
  return std::unique_ptr<T[]>(new T[rows * COLUMNS<T>]);
}

// Rows of `from`, up to COLUMNS numbers each, side by side and filled up with zeros.
template <class T>
void pack(const T* from, int64_t step, int64_t rows, int64_t width, T* to) {
  constexpr int C = COLUMNS<T>;
  for (; rows-- > 0; from += step, to += C) {
    if (width >= C) store(to, load(from)), store(to + LANES<T>, load(from + LANES<T>));
    else std::fill(std::copy(from, from + width, to), to + C, T(0));
  }
}

#ifdef __clang__
#define PICK(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(T, a, b, ...) __builtin_shuffle(a, b, typename Register<T>::Bits{__VA_ARGS__})
#endif

// The square of a register's rows, rows becoming columns.
inline void transpose(Vector<float> (&m)[8]) {
  Vector<float> n[8];
  UNROLLED
  for (int k = 0; k < 8; k += 2) {
    n[k] = PICK(float, m[k], m[k + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    n[k + 1] = PICK(float, m[k], m[k + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  UNROLLED
  for (int k = 0; k < 8; ++k) {
    if (k & 2) continue;
    m[k] = PICK(float, n[k], n[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    m[k + 2] = PICK(float, n[k], n[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  UNROLLED
  for (int k = 0; k < 4; ++k) {
    n[k] = PICK(float, m[k], m[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    n[k + 4] = PICK(float, m[k], m[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  UNROLLED
  for (int k = 0; k < 8; ++k) m[k] = n[k];
}

inline void transpose(Vector<double> (&m)[4]) {
  Vector<double> n[4];
  UNROLLED
  for (int k = 0; k < 4; k += 2) {
    n[k] = PICK(double, m[k], m[k + 1], 0, 4, 2, 6);
    n[k + 1] = PICK(double, m[k], m[k + 1], 1, 5, 3, 7);
  }
  UNROLLED
  for (int k = 0; k < 2; ++k) {
    m[k] = PICK(double, n[k], n[k + 2], 0, 1, 4, 5);
    m[k + 2] = PICK(double, n[k], n[k + 2], 2, 3, 6, 7);
  }
}

// Up to COLUMNS rows of `from`, `columns` numbers each, as columns, and zeros for rows that are not there.
template <class T>
void pack_transposed(const T* from, int64_t columns, int64_t rows, T* to) {
  constexpr int L = LANES<T>, C = COLUMNS<T>;
  for (int part = 0; part < C; part += L) {
    int64_t at = 0;
    for (; rows >= part + L && at + L <= columns; at += L) {
      Vector<T> square[L];
      UNROLLED
      for (int l = 0; l < L; ++l) square[l] = load(from + (part + l) * columns + at);
      transpose(square);
      UNROLLED
      for (int l = 0; l < L; ++l) store(to + (at + l) * C + part, square[l]);
    }
    for (; at < columns; ++at)
      for (int l = part; l < part + L; ++l) to[at * C + l] = l < rows ? from[l * columns + at] : T(0);
  }
}

// TILE rows of a product: sum [TILE, COLUMNS] += rows [TILE, depth] panel [depth, COLUMNS].
template <class T>
struct Sum {
  Vector<T> sum[TILE][2] = {};

  // Numbers of a row are `step` apart.
  void add(const T* const (&rows)[TILE], int64_t step, int64_t depth, const T* panel) {
    for (int64_t k = 0, at = 0; k < depth; ++k, at += step, panel += COLUMNS<T>) {
      const Vector<T> left = load(panel), right = load(panel + LANES<T>);
      UNROLLED
      for (int r = 0; r < TILE; ++r) {
        const T number = rows[r][at];
        sum[r][0] += number * left, sum[r][1] += number * right;
      }
    }
  }

  void put(T* to) const {
    UNROLLED
    for (int r = 0; r < 2 * TILE; ++r) store(to + r * LANES<T>, sum[r / 2][r % 2]);
  }
};

// use(row, panel, found [COLUMNS]) for every row of in [rows, depth] times each of some panels.
template <class T, class Use>
void multiplied(const T* in, int64_t rows, int64_t depth, const T* panel, int n_panels, Use use) {
  T found[TILE * COLUMNS<T>];
  for (int64_t row = 0; row < rows; row += TILE) {
    const T* at[TILE];
    for (int r = 0; r < TILE; ++r) at[r] = in + std::min(row + r, rows - 1) * depth;
    for (int p = 0; p < n_panels; ++p) {
      Sum<T> sum;
      sum.add(at, 1, depth, panel + p * depth * COLUMNS<T>);
      sum.put(found);
      for (int r = 0; r < TILE && row + r < rows; ++r) use(row + r, p, found + r * COLUMNS<T>);
    }
  }
}

template <class T>
inline void keep(T* to, Vector<T> value, int64_t width) {
  if (width >= LANES<T>) store(to, value);
  else for (int l = 0; l < width; ++l) to[l] = value[l];
}

template <class T>
inline Vector<T> take(const T* from, int64_t width) {
  if (width >= LANES<T>) return load(from);
  Vector<T> value = {};
  for (int l = 0; l < width; ++l) value[l] = from[l];
  return value;
}

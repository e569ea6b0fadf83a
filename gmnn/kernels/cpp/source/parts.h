// Work that is shared among the threads of XLA.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

// Call work(phase, part) for all parts of every phase, on this thread and those of the pool that come in time. A phase
// begins when the one before it is done.
template <class Work>
void share_out(xla::ffi::ThreadPool& pool, int64_t threads, const std::vector<int64_t>& parts, Work work) {
  struct Progress {
    std::atomic<int64_t> begun{0}, done{0};
  };
  auto progress = std::make_shared<std::vector<Progress>>(parts.size());
  auto some = [progress, parts, work] {
    for (size_t phase = 0; phase < parts.size(); ++phase) {
      auto& [begun, done] = (*progress)[phase];
      for (int64_t part; (part = begun++) < parts[phase]; ++done) work(phase, part);
      while (done < parts[phase]) std::this_thread::yield();
    }
  };
  const int64_t most = *std::max_element(parts.begin(), parts.end());
  for (int64_t k = 1; k < std::min(threads, most); ++k) pool.Schedule(decltype(some)(some));
  some();
}

// Call work(part) for all parts.
template <class Work>
void share_out(xla::ffi::ThreadPool& pool, int64_t parts, Work work) {
  share_out(pool, parts, std::vector<int64_t>{parts}, [work](int64_t, int64_t part) { work(part); });
}

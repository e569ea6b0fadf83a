// Work that is shared out among the threads of XLA.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

// work(part) for all parts, by this thread and those of the pool that come in time.
template <class Work>
void share_out(xla::ffi::ThreadPool& pool, int64_t parts, Work work) {
  struct Progress {
    std::atomic<int64_t> begun{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  auto some = [progress, parts, work] {
    for (int64_t part; (part = progress->begun++) < parts; ++progress->done) work(part);
  };
  for (int64_t k = 1; k < parts; ++k) pool.Schedule(decltype(some)(some));
  some();
  while (progress->done < parts) std::this_thread::yield();
}

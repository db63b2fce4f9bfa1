// thread_list.hpp: the threads of this process, all of them, while others start and end.
//
// The kernel's directory of threads may leave out a thread that lives when another one ends while it is read. So it is read
// until it is shown to be complete: as many threads of the list live, after the kernel was asked for their number, as it
// said there are. A thread that starts after that moment is not in the list.
#pragma once

#include <cstdint>

#include "base/page_vector.hpp"

namespace shunt::core {

/// Nanoseconds of a clock that only goes forward. Fit for signal handlers.
std::uint64_t now_ns();

class ThreadList {
 public:
  enum class Outcome { complete, no_proc, no_memory, too_late };

  /// Reads the list; tries until `deadline`. The caller is in it as well.
  [[nodiscard]] Outcome read(std::uint64_t deadline);

  [[nodiscard]] std::span<const int> ids() const { return {ids_.data(), ids_.size()}; }

 private:
  Outcome add_pass();
  void sort_out();

  PageVector<int> ids_;
};

}  // namespace shunt::core

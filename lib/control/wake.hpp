// wake.hpp: how a signal handler wakes the thread: a pipe. A pipe, since every one has an inode of its own, so that ours can be
// told from what the application may have at the number now; and since the thread, which waits at its reading end, is woken
// when all its writing ends are closed: that is how it learns at once that the application closed every descriptor.
//
// A handler may be using a pipe while it is replaced, so none is ever freed. There are few.
#pragma once

#include "base/guarded_fd.hpp"

namespace shunt::control {

struct Wake {
  core::GuardedFd read_end, write_end;
  Wake *previous = nullptr;

  /// NULL, with errno, when there is none to be had. `previous`: what it takes the place of, or NULL.
  static Wake *make(Wake *previous);
  [[nodiscard]] bool is_ours() const { return read_end.is_ours() && write_end.is_ours(); }
  /// Fit for a signal handler.
  void ring() const;
  /// Was it rung since the last time that this was asked?
  [[nodiscard]] bool take() const;
  void close();
};

}  // namespace shunt::control

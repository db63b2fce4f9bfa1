// bystanders.hpp: threads that are known to hold no address in the code of a patch.
//
// There are two ways to know. A thread that slept before the code was loaded and has not run since cannot have one,
// whatever lies on its stack: nobody need disturb it, though its registers cannot be seen. And a thread that was seen
// without one after the patch was reverted stays so: no slot leads there any more. So what is known is kept from one
// question to the next, for as long as the patch stays reverted.
//
// A thread is told by its id and the time of its start, since ids come back.
#pragma once

#include <cstdint>

#include "base/page_vector.hpp"

namespace shunt::core {

class Bystanders {
 public:
  /// Before the code is loaded. Without memory, or where the kernel does not tell, they are simply asked later.
  void note_sleepers();
  /// The patch is applied again: only who has not run is known.
  void forget_seen() { seen_.clear(); }

  [[nodiscard]] bool has_not_run(int thread, std::uint64_t started, std::uint64_t switches) const;
  [[nodiscard]] bool was_seen(int thread, std::uint64_t started) const;
  void add_seen(int thread, std::uint64_t started);

 private:
  struct Sleeper {
    int thread;
    std::uint64_t started, switches;
  };
  struct Seen {
    int thread;
    std::uint64_t started;
  };
  PageVector<Sleeper> sleepers_;  // by thread
  PageVector<Seen> seen_;
};

}  // namespace shunt::core

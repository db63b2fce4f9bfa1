#include "threads/bystanders.hpp"

#include <algorithm>

#include "threads/standing.hpp"
#include "threads/thread_list.hpp"

namespace shunt::core {

void Bystanders::note_sleepers() {
  constexpr std::uint64_t kPatience = 50'000'000;
  ThreadList list;
  sleepers_.clear();
  if (list.read(now_ns() + kPatience) != ThreadList::Outcome::complete) return;
  for (const int id : list.ids()) {  // in order
    const std::uint64_t started = start_of(id);
    const Standing standing = standing_of(id);
    if (started == 0 || standing.doing != Standing::Doing::asleep) continue;
    if (!sleepers_.push_back({id, started, standing.switches})) return;
  }
}

bool Bystanders::has_not_run(int thread, std::uint64_t started, std::uint64_t switches) const {
  const Sleeper *const found = std::lower_bound(sleepers_.begin(), sleepers_.end(), thread,
                                                [](const Sleeper &one, int id) { return one.thread < id; });
  return started != 0 && found != sleepers_.end() && found->thread == thread && found->started == started &&
         found->switches == switches;
}

bool Bystanders::was_seen(int thread, std::uint64_t started) const {
  const Seen *const found =
      std::lower_bound(seen_.begin(), seen_.end(), thread, [](const Seen &one, int id) { return one.thread < id; });
  return started != 0 && found != seen_.end() && found->thread == thread && found->started == started;
}

void Bystanders::add_seen(int thread, std::uint64_t started) {
  Seen *const place =
      std::lower_bound(seen_.begin(), seen_.end(), thread, [](const Seen &one, int id) { return one.thread < id; });
  if (place != seen_.end() && place->thread == thread) {
    place->started = started;
    return;
  }
  const auto at = place - seen_.begin();
  if (!seen_.push_back({thread, started})) return;
  std::rotate(seen_.begin() + at, seen_.end() - 1, seen_.end());
}

}  // namespace shunt::core

// list_lock.hpp: the dynamic linker's lock over its list of objects, across a fork.
//
// dl_iterate_phdr() takes it, dlopen() and dlclose() too. glibc gives the child of a fork a new lock for loading, but not a new one of these: where
// another thread had it at that moment, it is locked in the child for ever, and whoever asks for the list there hangs (seen with glibc
// 2.36). A child must be able to apply and revert, so shunt takes it before a fork and gives it back after, in the child as a new one. Nobody
// is in the middle of changing the list then, either.
//
// It has no name. It is found by looking for it: among the dynamic linker's variables, the one recursive mutex that this thread holds inside
// a callback of dl_iterate_phdr() and does not hold outside. Where there is none (another libc), nothing is done.
#pragma once

namespace shunt::core {

class ListLock {
 public:
  /// Once, and not from inside a callback of dl_iterate_phdr().
  static void find();
  static void before_fork();
  static void after_fork_in_parent();
  static void after_fork_in_child();
};

}  // namespace shunt::core

// loader_watch.hpp: tells when objects have been loaded: after they were relocated, and before the first of their constructors.
//
// The dynamic linker calls a function that does nothing (r_debug's r_brk, link.h) for the sake of debuggers: before it adds or
// removes objects, and when its list is right again. New objects are mapped then and not yet relocated, and their .dynamic, which
// says where their initialization functions are, can still be written. The engine leads that function's entry to notice(), when it is asked
// to (shunt_watch_loads()). There
// the initialization of each new object is pointed at a function of ours. The first of them to be called tells the engine that all of
// the new objects are ready, and each goes on with what its object wanted to be called. So nothing is wrapped: whoever
// loads, and however, the caller of dlopen stays who it is.
//
// Left out, and seen by the engine when it is asked next: objects that have no initialization function, when all that
// were loaded together have none; objects whose .dynamic cannot be written; the 257th of those loaded at once. IFUNC resolvers
// run while objects are relocated, so before. Objects of other namespaces (dlmopen) are not in this list at all.
//
// Everything here runs in the dynamic linker, with its lock held, on a thread of the application: no malloc, no waiting.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shunt::core {

class LoaderWatch {
 public:
  /// The function that the dynamic linker calls. 0 when there is none: a static program, a dynamic linker without r_debug.
  static std::uintptr_t notice_point();
  /// What its calls shall be led to.
  static void notice();

  /// From the next loaded object on, `ready` is called on the loading thread. NULL: nothing is watched any more; what waits
  /// for its initialization goes on as it is. Any thread; `ready` may still be running on another one when this returns.
  static void tell(void (*ready)());

  struct Load {
    std::uint64_t number = 0;  // from 1; 0: the object was initialized, or was never seen here
    bool is_going_on = false;  // it is mapped, but not known to be relocated
  };
  /// Which load the object with this base belongs to, from when it is in the list to when its initialization begins; `position` is its
  /// place in the list, from 0. Any thread, with the list of objects held.
  static Load load_of(std::uintptr_t base, std::size_t position);
  /// There are such objects, and nothing will tell when they are ready. After wait_for_loading() they are.
  static bool has_silent();
  /// Waits until no other thread is loading objects. The caller must hold no lock that an application may wait for in a constructor.
  static void wait_for_loading();

  /// The thread that was loading is not there.
  static void after_fork_in_child();

  /// How many namespaces beside the first one have objects.
  static std::size_t other_namespaces();
};

}  // namespace shunt::core

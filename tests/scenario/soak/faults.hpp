// faults.hpp: makes one of the next calls fail, of those that a transaction needs: mprotect, mmap, memfd_create and openat in the
// kernel's stead, by a seccomp filter that hands them to us; malloc where operator new calls it, by shunt's own redirect. Only of the
// thread that asked for it.
#pragma once

#include <string>

namespace faults {

/// For the rest of the process's life. Call before other threads are started.
void install();
/// Whether install() can: there are sandboxes that allow no filter of one's own.
bool can_install();

/// From now until disarm() the `step`-th such call of this thread fails, from 1.
void arm(unsigned step);
/// Until disarm() nothing fails any more.
void pause();
/// What failed since arm(): "mmap", ...; "" when there were fewer calls.
std::string disarm();

}  // namespace faults

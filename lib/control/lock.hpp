// lock.hpp: the mutex that all of this room's work is done under: shunt's thread holds it while it works, who starts it while it
// starts, and who forks takes it before. A patch's constructors run while it is held, and may never come back; for that time it says so
// (OwnedMutex::Away), so that fork() goes on without it.
#pragma once

#include "base/owned_mutex.hpp"

namespace shunt::control {

core::OwnedMutex &control_mutex();

}  // namespace shunt::control

// Functions of the provider, and the other library's data that point at them.
#pragma once

extern "C" {
int e05_first(int x);      // x + 1
int e05_second(int x);     // x + 2
int e05_beyond(int x);     // only ever pointed at with an addend
int e05_unaligned(int x);  // x + 3; its only slot is not aligned

using e05_function = int(int);
// By calls, not by name: a program would get copies of its own of such data.
e05_function *const *e05_table();      // e05_first, e05_second
const char *const *e05_beyond_by_4();  // (const char *)e05_beyond + 4
e05_function *e05_packed_first();      // the value of a slot that is not aligned
e05_function *e05_packed_unaligned();
const void *e05_packed_place();        // where that of e05_first is
}

struct Base {
  virtual ~Base();
  virtual int sides() const;  // 4: in the provider
};

Base *e05_make_derived();  // its vtable lies in the other library and has the provider's Base::sides()

#include "e05.hpp"

namespace {
struct Derived : Base {};
}  // namespace

Base *e05_make_derived() { return new Derived; }

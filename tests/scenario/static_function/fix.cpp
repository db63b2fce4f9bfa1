// The fix, a plain shared library: the function of that name that the server has, without the bug.
namespace rules {
[[gnu::visibility("default")]] int critical(int blow) { return 2 * blow; }
}  // namespace rules

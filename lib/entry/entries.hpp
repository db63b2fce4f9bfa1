// entries.hpp: redirects functions at their first instructions, for calls that use no slot.
//
// The engine drives it so, under its own lock, one thread at a time:
//
//   prepare()             for each function of a transaction: plans the jump, takes memory for the trampoline. Nothing runs it yet.
//   write_trampolines()   once for all of them. From here on trampoline() can be called: slots may be given it as their original.
//   commit()              all steps or none. It is the last part of a transaction that can fail; slots are written before.
//   undo()                brings the targets back that were there before a commit().
//
// A step leads one function to a new target, from wherever it led before: to a replacement, to another one (a single jump to the
// newest, never a chain), or, with target 0, back to the function itself. So applying, putting a layer on top, taking one out of
// the middle and reverting are the same call. What each layer calls as its original is the engine's to know; the lowest calls
// trampoline(), which stays where it is until drop_idle().
//
// How commit() changes code that threads are running (text_flip.hpp changes pages, all that follow each other at once):
//
//   one instruction to another   a jump to another target, a jump back to the function, or an entry whose first instruction is no
//                        shorter than the jump: one flip. Each thread runs the old one or the new one.
//   several instructions to one  a thread may be between them. Flip 1 puts a breakpoint on the first; who runs into it goes to the
//                        trampoline, so to the function as it was: no call sees a replacement whose transaction may yet be refused.
//                        Now nobody can get in any more. Each thread is seen outside once (threads/question.hpp); who is inside
//                        is moved to the same instruction of the trampoline. Flip 2 puts the jump.
//   a jump in padding    is taken out when no thread stands at it: first it leads to the trampoline, where nobody comes any more, then
//                        the threads are asked. When one stays in the way, the jump stays too, and does no harm.
//
// Between the first flip and the last nothing is taken from malloc and no lock is held but the caller's. prepare() and
// write_trampolines() may allocate, and call the unwinder: not while the loader's lock is held.
//
// The thread that commits may block SIGTRAP, as shunt's own does: it is let through for the time of a commit.
//
// What this cannot see: a coroutine that is suspended inside a displaced call whose return lies in the bytes that change; a thread on
// an alternate signal stack that left another handler, on its own stack, between two displaced instructions.
#pragma once

#include <span>

#include "base/error.hpp"
#include "elf/call_frames.hpp"
#include "entry/entry.hpp"
#include "memory/near_memory.hpp"
#include "threads/question.hpp"

namespace shunt::core {

/// A function to redirect, and what is known of it. The names must outlive the Entries.
struct EntryTarget {
  arch::Function function;           // its bytes are the memory itself
  const CallFrame *frame = nullptr;  // how it is unwound; NULL: not known
  const char *object = "", *symbol = "";
};

using EntryId = std::uint32_t;

/// The process's unwinder, which need not be the one that is linked into this library: __register_frame and
/// __deregister_frame. NULL where there is none; then nothing can throw.
struct Unwinder {
  using Tell = void(void *);
  Tell *add = nullptr, *remove = nullptr;
};

struct EntryStep {
  EntryId entry = 0;
  std::uintptr_t target = 0;  // 0: the function itself
  /// A step back: where somebody else changed the entry, that is left as it is, and no error.
  bool is_revert = false;
  std::uintptr_t before = 0;  // set by commit(): the target until then
  bool is_conflict = false;   // set by commit(): somebody else changed the entry, and it is nobody's of ours any more
};

/// What a commit() was like for the threads.
struct EntryReport {
  Passing passing;
  std::uint64_t trapped = 0;         // calls that ran into a breakpoint
  std::uint64_t breakpoints_ns = 0;  // how long they stood
  std::size_t conflicts = 0;
  std::size_t padding_left = 0;  // jumps in padding that stayed, since a thread may stand at them
};

class Entries {
 public:
  Entries();
  Entries(const Entries &) = delete;
  Entries &operator=(const Entries &) = delete;
  /// Nothing is redirected any more, and no thread is in a trampoline.
  ~Entries();

  /// From now on frames are told to this one. Before that the dynamic linker is asked where it is, which takes the linker's lock.
  void use(Unwinder unwinder) {
    unwinder_ = unwinder;
    has_unwinder_ = true;
  }

  /// Plans, and takes memory. A function that is known is not planned again, as long as it is what it was.
  /// Errors: entry_refused, no_near_memory, out_of_memory.
  bool prepare(const EntryTarget &target, EntryId &id, Problem &problem);
  /// Errors: as TextFlip::flip(). What was prepared and is not written then is forgotten.
  bool write_trampolines(Problem &problem);

  [[nodiscard]] const Entry &entry(EntryId id) const { return entries_[id]; }
  /// The function as it was, for whoever replaces it.
  [[nodiscard]] std::uintptr_t trampoline(EntryId id) const { return entries_[id].trampoline; }

  /// All steps or none; each function at most once. Threads are waited for `wait_ns` at most, for each question. Of this thread's own
  /// stack counts what lies above `own_sp`: below are frames of shunt, which hold such addresses without being about to return there.
  /// Errors: thread_in_the_way, and those of TextFlip::flip() (code_changed: an entry to be redirected is not what it was).
  bool commit(std::span<EntryStep> steps, std::uintptr_t own_sp, std::uint64_t wait_ns, EntryReport &report,
              Problem &problem);
  /// The same, with the frame of whoever calls this.
  bool commit(std::span<EntryStep> steps, std::uint64_t wait_ns, EntryReport &report, Problem &problem);
  /// Back to the targets before. Errors as commit(): where that reverted a function, this redirects it again.
  bool undo(std::span<EntryStep> steps, std::uint64_t wait_ns, Problem &problem);

  /// What we wrote at the entry is there.
  [[nodiscard]] bool stands(EntryId id) const;
  /// It is redirected, and there is nothing of that: another loading of the object lies at its place. (In code that is loaded.)
  [[nodiscard]] bool is_the_function_again(EntryId id) const;
  /// The entry at `function` that is redirected now; false when none is.
  bool find_redirected(std::uintptr_t function, EntryId &id) const;

  /// Gives back the trampolines of functions that are not redirected, if no thread is in one of them or will return there.
  /// Nobody may call them any more. How many were given back; 0 and `obstacle` when a thread was in the way.
  std::size_t drop_idle(std::uint64_t wait_ns, Obstacle &obstacle);
  /// The code in [begin, end) was unloaded, so nobody is in a trampoline of it: nothing of it is ever written again, and its
  /// trampolines are given back. No id of it may be used any more: it may become another function's.
  void forget(std::uintptr_t begin, std::uintptr_t end);

  [[nodiscard]] std::size_t trampoline_blocks() const { return near_.blocks(); }
  /// How many pages of code are copies.
  [[nodiscard]] std::size_t pages_away() const { return text_.pages_away(); }

 private:
  friend class EntryChange;

  struct Pending {
    EntryId entry;
    std::uint32_t first, size;  // in pending_bytes_
  };

  bool find(const EntryTarget &target, EntryId &id) const;
  bool make(const EntryTarget &target, Entry &entry, EntryId &id, Problem &problem);
  bool find_record(Entry &entry, EntryId &id);
  void save(const EntryTarget &target, Entry &entry);
  bool relocate(const EntryTarget &target, Entry &entry, Problem &problem);
  void make_frame(const CallFrame &frame, Entry &entry);
  void give_back(Entry &entry);

  Unwinder unwinder();

  Unwinder unwinder_;
  bool has_unwinder_ = false;
  TextFlip text_;
  NearMemory near_;
  PageVector<std::uintptr_t> functions_;  // of entries_, 0: gone
  PageVector<Entry> entries_;
  PageVector<std::uint8_t> originals_;
  PageVector<arch::Boundary> boundaries_;
  PageVector<Pending> pending_;
  PageVector<std::uint8_t> pending_bytes_;
};

}  // namespace shunt::core

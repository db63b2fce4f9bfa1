// code.hpp: what shunt asks of an instruction set to put a jump at the entry of a function, and to keep the function callable.
//
// An entry redirect overwrites the first instructions of a function. Three questions come up, and each has a function in the
// ISA's struct (X86_64Code, Aarch64Code; which one this machine has is in native_code.hpp):
//
//   plan        may these bytes be changed, which ones, in which form? Nothing is written.
//   entry_bytes which bytes then stand at the entry, for a given replacement or stub?
//   relocate    the instructions that were displaced, made to work at another address, with a jump behind them to the rest of
//               the function: the trampoline, through which the function stays callable.
//
// Nothing here writes to code, allocates, or looks at the process: bytes come in, bytes go out. So all of it is tested on every
// host. All input is hostile: a symbol may lie about its size, and code may be data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace shunt::core::arch {

class JumpTargets;

/// What lies at `address`: `size` bytes, of which `data` is a copy or the memory itself.
struct Bytes {
  std::uint64_t address = 0;
  const std::uint8_t *data = nullptr;
  std::size_t size = 0;

  [[nodiscard]] bool contains(std::uint64_t where, std::size_t count) const {
    return where >= address && where - address <= size && count <= size - (where - address);
  }
  [[nodiscard]] const std::uint8_t *at(std::uint64_t where) const { return data + (where - address); }
};

/// A function, and what is known of its surroundings.
struct Function {
  /// From the first instruction to the end that its symbol gives.
  Bytes body;
  /// So many bytes directly before and behind the body belong to no symbol, and may be read at body.data - before and
  /// body.data + body.size. Whether they are padding is found out here. A byte that another redirect already uses does not count.
  std::size_t before = 0, after = 0;
  /// Other code that is the function's own and may jump back into it: its parts called NAME.cold.
  std::span<const Bytes> parts = {};
  /// All code of the object: a jump table ends where an entry does not lead into it. Empty: as if it were the body alone.
  Bytes text = {};
  /// Read-only data of the object, where jump tables lie (the code itself is looked at as well).
  std::span<const Bytes> data = {};
  /// The direct jumps of all code of the object. NULL: unknown, only body and parts are looked at.
  const JumpTargets *jumps = nullptr;
  /// Its frame description has a personality: a call in it may be left by an exception that it catches itself.
  bool has_landing_pads = false;
};

enum class JumpForm : std::uint8_t {
  refused,
  in_padding,  // a short jump at the entry to a jump in the padding before it: the fewest bytes change at the entry itself
  whole,       // a jump in place of whole instructions
  over_padding,  // the same; the function is shorter than the jump, which reaches into the padding behind it
};
const char *form_name(JumpForm form);

enum class Refusal : std::uint8_t {
  none,
  no_decoder,           // the library that decodes instructions is not there
  size_unknown,         // the symbol says 0, or more than can be true
  too_short,            // and what surrounds it is no padding
  falls_through,        // shorter than the jump, and does not end in a return or a jump
  unknown_instruction,  // at refused_at
  jumps_back,           // the body's instruction at refused_at jumps to the bytes that change, or to the entry itself
  jumped_into,          // other code jumps to the bytes that change; refused_at is where to
  unknown_jump_table,   // the body's instruction at refused_at may jump to anywhere, so to the bytes that change too
  unrelocatable,        // a displaced instruction, at refused_at, that cannot be moved
  reads_own_address,    // a displaced call, at refused_at, whose return address is used as data
  reads_own_code,       // a displaced instruction, at refused_at, reads the bytes that change as data
  has_landing_pads,     // a displaced call, at refused_at, may throw into this very function
};
/// Half a sentence: "the function ...".
const char *refusal_text(Refusal refusal);

/// What a redirect of one function's entry would do. All offsets count from the first byte of the function.
struct EntryPlan {
  JumpForm form = JumpForm::refused;
  Refusal refusal = Refusal::none;
  std::uint32_t refused_at = 0;

  /// The bytes at the entry that change: [site, site + changed). Behind what must stay first (endbr64, bti).
  std::uint32_t site = 0, changed = 0;
  /// in_padding: so many bytes before the first byte of the function stands the jump that the short one leads to.
  std::uint32_t padding = 0;

  /// The trampoline stands in for [0, displaced): no thread may be between `site` and `displaced` when the entry changes, nor
  /// return there, unless it is moved to the matching place in the trampoline.
  std::uint32_t displaced = 0;
  std::uint32_t instructions = 0;      // in [0, displaced)
  std::uint32_t trampoline_bytes = 0;  // so many are enough, wherever it lies

  /// The whole function was displaced, because its body jumps back to the entry: its loop runs in the trampoline.
  bool copies_body = false;
  /// A thread can stand strictly inside [site, site + changed). Where it cannot, the change needs no look at threads for its own
  /// sake. (Threads inside `displaced` matter with copies_body.)
  bool has_inner_boundary = false;
  /// A displaced call returns into the trampoline: frames can be unwound through it, and it cannot be unmapped while one waits.
  bool has_call = false;
};

/// The same instruction in the function and in the trampoline.
struct Boundary {
  std::uint32_t function_offset, trampoline_offset;
};

/// Bytes to write somewhere.
struct CodeBytes {
  std::uint64_t address = 0;
  std::uint32_t size = 0;
  std::uint8_t bytes[16] = {};
};

/// What an entry redirect writes: first[0] (if any) before entry, since it is what the entry leads to.
struct EntryBytes {
  CodeBytes padding;  // size 0 unless the form is in_padding
  CodeBytes entry;
};

enum class Relocated : std::uint8_t {
  done,
  out_of_reach,  // a displaced instruction names memory that the trampoline's address is too far from
  no_room,       // fewer bytes or boundaries than the plan asks for
  impossible,    // the bytes are not those that were planned
};

}  // namespace shunt::core::arch

// decoder.hpp: one x86-64 instruction, as far as moving it matters: its length, where it leads, what it names relative to itself.
//
// The knowledge of lengths is Zydis's. It is loaded when the first entry redirect is planned and never before (decoder.cpp), so
// a process that only redirects slots does not have it, and neither libshunt nor the shim depends on it.
#pragma once

#include "arch/code.hpp"

namespace shunt::core::arch::x86_64 {

enum class Kind : std::uint8_t {
  plain,
  padding,       // a NOP of any length, or int3: does nothing where it is met as filling
  endbr,         // endbr64
  jump,          // jmp rel8, rel32
  conditional,   // jcc rel8, rel32
  loop,          // loop, loope, loopne, jrcxz, jecxz: rel8 and nothing else
  call,          // call rel32
  begin,         // xbegin rel32: where an aborted transaction goes on
  call_through,  // call of an address in a register or in memory
  jump_through,  // jmp to an address in a register or in memory
  end,           // ret, ud2, hlt: what follows is not run because of it
  odd_relative,  // a relative instruction with a 16-bit operand or the like: never moved
};

struct Instruction {
  Kind kind = Kind::plain;
  std::uint8_t length = 0;
  std::uint8_t opcode = 0;     // the last byte of it
  std::uint8_t condition = 0;  // of a jcc: the low four bits of its opcode

  /// Kinds with a relative target; `plain` and ..._through that name memory by rip: what they name.
  std::uint64_t target = 0;
  /// Where in the instruction the displacement lies: 0 when it names nothing relative to itself.
  std::uint8_t displacement_at = 0, displacement_size = 0;
  bool names_memory_by_rip = false;
  bool is_lea = false;

  /// An address of data that it names absolutely, where a jump table may lie: [disp32 + index * 8], mov reg, imm. 0: none.
  std::uint64_t absolute = 0;
  bool has_memory = false;  // it has a memory operand
  bool has_index = false;   // which is scaled by an index
  bool is_trap = false;     // int3

  /// Whether it reads or writes one of [begin, end), or calls through it. Up to eight bytes: whatever is longer is not between code.
  [[nodiscard]] bool uses(std::uint64_t begin, std::uint64_t end) const {
    return names_memory_by_rip && !is_lea && target + 8 > begin && target < end;
  }
  /// Whether it may lead to `target` other than by a call that comes back.
  [[nodiscard]] bool jumps() const {
    return kind == Kind::jump || kind == Kind::conditional || kind == Kind::loop || kind == Kind::begin;
  }
  /// Whether what follows it may be run next.
  [[nodiscard]] bool runs_on() const {
    return kind != Kind::jump && kind != Kind::jump_through && kind != Kind::end && !is_trap;
  }
};

/// False when there is no Zydis: nothing can be decoded then. Loads it at the first call, so not while a lock is held that a
/// constructor of some library may wait for.
bool load_decoder();
bool is_decoder_loaded();

/// Without Zydis: returns, endbr64, int3, and the NOPs that assemblers fill with. False for everything else.
bool decode_simple(const Bytes &code, std::size_t offset, Instruction &instruction);

/// Decodes what lies at `offset` of `code`. False when that is no instruction, or one that goes on behind the end. As decode_simple()
/// while there is no Zydis.
bool decode(const Bytes &code, std::size_t offset, Instruction &instruction);

}  // namespace shunt::core::arch::x86_64

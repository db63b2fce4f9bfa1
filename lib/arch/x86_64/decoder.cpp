// Zydis comes as a shared library only (Debian has no static one), and a server must not get a dependency that it did not have:
// so it is opened by its soname, in a scope of its own, when it is first needed. Its headers are needed to build; they say what
// lies where in its structures, which is why another soname will not do.
#include "arch/x86_64/decoder.hpp"

#include <Zydis/Zydis.h>
#include <dlfcn.h>

#include <atomic>
#include <cstring>

#include "base/syscalls.hpp"

namespace shunt::core::arch::x86_64 {
namespace {

static_assert(ZYDIS_VERSION_MAJOR(ZYDIS_VERSION) == 4 && ZYDIS_VERSION_MINOR(ZYDIS_VERSION) == 0,
              "the name of the library below goes with its headers: change both");
constexpr const char *kLibrary = "libZydis.so.4.0";

// Written once, by load_decoder(), before anybody decodes.
enum State : int { not_loaded, being_written, loaded };
std::atomic<int> state = not_loaded;
decltype(&ZydisDecoderDecodeInstruction) decode_instruction = nullptr;
ZydisDecoder decoder;

/// What gcc's ms_hook_prologue begins a function with: lea rsp, [rsp + 0] in eight bytes.
constexpr std::uint8_t kHookPrologue[] = {0x48, 0x8d, 0xa4, 0x24, 0, 0, 0, 0};

Kind kind_of(const ZydisDecodedInstruction &from) {
  switch (from.mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_INT3:
      return Kind::padding;
    case ZYDIS_MNEMONIC_ENDBR64:
      return Kind::endbr;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
      return Kind::loop;
    case ZYDIS_MNEMONIC_JMP:
      return from.raw.imm[0].is_relative ? Kind::jump : Kind::jump_through;
    case ZYDIS_MNEMONIC_CALL:
      return from.raw.imm[0].is_relative ? Kind::call : Kind::call_through;
    case ZYDIS_MNEMONIC_XBEGIN:
      return Kind::begin;
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
      return Kind::end;
    default:
      break;
  }
  if (from.raw.imm[0].is_relative) return Kind::conditional;
  if (from.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return Kind::odd_relative;
  return Kind::plain;
}

void read_relative(const ZydisDecodedInstruction &from, std::uint64_t address, Instruction &to) {
  const auto &immediate = from.raw.imm[0];
  to.displacement_at = immediate.offset;
  to.displacement_size = static_cast<std::uint8_t>(immediate.size / 8);
  to.target = address + from.length + static_cast<std::uint64_t>(immediate.value.s);
  const bool is_known =
      immediate.size == 32 || (immediate.size == 8 && to.kind != Kind::call && to.kind != Kind::begin);
  // A prefix 66 cuts the target down to 16 bits on some machines and not on others.
  if (!is_known || (from.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0) to.kind = Kind::odd_relative;
}

void read_memory(const ZydisDecodedInstruction &from, std::uint64_t address, Instruction &to) {
  const auto &modrm = from.raw.modrm;
  if ((from.attributes & ZYDIS_ATTRIB_HAS_MODRM) == 0 || modrm.mod == 3) return;
  to.has_memory = true;
  if (modrm.mod == 0 && modrm.rm == 5) {
    to.names_memory_by_rip = true;
    to.displacement_at = from.raw.disp.offset;
    to.displacement_size = 4;
    to.target = address + from.length + static_cast<std::uint64_t>(from.raw.disp.value);
    if (from.address_width != 64) to.kind = Kind::odd_relative;  // relative to eip
  } else if ((from.attributes & ZYDIS_ATTRIB_HAS_SIB) != 0) {
    to.has_index = from.raw.sib.index != 4 || from.raw.rex.X != 0;
    if (modrm.mod == 0 && from.raw.sib.base == 5) to.absolute = static_cast<std::uint32_t>(from.raw.disp.value);
  } else if (modrm.mod == 2) {
    to.absolute =
        static_cast<std::uint32_t>(from.raw.disp.value);  // [index * 1 + disp32]: a table in code that is not PIC
  }
}

}  // namespace

bool is_decoder_loaded() { return state.load(std::memory_order_acquire) == loaded; }

bool load_decoder() {
  if (is_decoder_loaded()) return true;
  void *library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;  // it may be installed later: the next call tries again
  const auto init = reinterpret_cast<decltype(&ZydisDecoderInit)>(dlsym(library, "ZydisDecoderInit"));
  const auto function = reinterpret_cast<decltype(decode_instruction)>(dlsym(library, "ZydisDecoderDecodeInstruction"));
  ZydisDecoder made;
  if (init == nullptr || function == nullptr ||
      !ZYAN_SUCCESS(init(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))) {
    dlclose(library);
    return false;
  }
  int expected = not_loaded;
  if (state.compare_exchange_strong(expected, being_written)) {
    decoder = made;
    decode_instruction = function;  // and it stays loaded
    state.store(loaded, std::memory_order_release);
  }
  while (!is_decoder_loaded()) sys::call(SYS_sched_yield);
  return true;
}

bool decode_simple(const Bytes &code, std::size_t offset, Instruction &instruction) {
  if (offset >= code.size) return false;
  const std::uint8_t *const bytes = code.data + offset;
  const std::size_t size = code.size - offset;
  const auto is = [&](Kind kind, std::size_t length, std::uint8_t opcode) {
    instruction = Instruction{};
    instruction.kind = kind;
    instruction.length = static_cast<std::uint8_t>(length);
    instruction.opcode = opcode;
    instruction.is_trap = opcode == 0xcc;
    return length <= size;
  };
  constexpr std::uint8_t kEndbr[] = {0xf3, 0x0f, 0x1e, 0xfa};
  if (size >= sizeof kEndbr && std::memcmp(bytes, kEndbr, sizeof kEndbr) == 0)
    return is(Kind::endbr, sizeof kEndbr, 0x1e);
  if (bytes[0] == 0xc3) return is(Kind::end, 1, 0xc3);
  if (bytes[0] == 0xcc) return is(Kind::padding, 1, 0xcc);
  // The NOPs that assemblers fill with: prefixes, then 90 or 0f 1f with the forms of an address of register rax.
  std::size_t at = 0;
  while (at < size && at < 10 && (bytes[at] == 0x66 || bytes[at] == 0x2e)) ++at;
  if (at < size && bytes[at] == 0x90) return is(Kind::padding, at + 1, 0x90);
  if (at + 3 > size || bytes[at] != 0x0f || bytes[at + 1] != 0x1f) return false;
  const std::uint8_t modrm = bytes[at + 2];
  const std::size_t behind = modrm == 0x00   ? 0  // [rax]
                             : modrm == 0x40 ? 1  // [rax + disp8]
                             : modrm == 0x44 ? 2  // [rax + rax + disp8]
                             : modrm == 0x80 ? 4  // [rax + disp32]
                             : modrm == 0x84 ? 5  // [rax + rax + disp32]
                                             : 16;
  return behind < 16 && is(Kind::padding, at + 3 + behind, 0x1f);
}

bool decode(const Bytes &code, std::size_t offset, Instruction &instruction) {
  if (!is_decoder_loaded()) return decode_simple(code, offset, instruction);
  if (offset >= code.size) return false;
  ZydisDecodedInstruction from;
  std::memset(&from, 0, sizeof from);
  if (!ZYAN_SUCCESS(decode_instruction(&decoder, nullptr, code.data + offset, code.size - offset, &from))) return false;

  const std::uint64_t address = code.address + offset;
  instruction = Instruction{};
  instruction.kind = kind_of(from);
  instruction.length = from.length;
  instruction.opcode = from.opcode;
  instruction.condition = from.opcode & 0xf;
  instruction.is_lea = from.mnemonic == ZYDIS_MNEMONIC_LEA;
  instruction.is_trap = from.mnemonic == ZYDIS_MNEMONIC_INT3;
  if (from.raw.imm[0].is_relative)
    read_relative(from, address, instruction);
  else
    read_memory(from, address, instruction);
  if (from.mnemonic == ZYDIS_MNEMONIC_MOV && from.raw.imm[0].size >= 32) instruction.absolute = from.raw.imm[0].value.u;
  if (from.length == sizeof kHookPrologue && std::memcmp(code.data + offset, kHookPrologue, sizeof kHookPrologue) == 0)
    instruction.kind = Kind::padding;
  return true;
}

}  // namespace shunt::core::arch::x86_64

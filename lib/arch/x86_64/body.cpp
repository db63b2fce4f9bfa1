// Compilers for x86-64 put instructions one behind the other and nothing between them but NOPs, so a body is read from its start
// to its end; where that fails (assembler code with data in it) the function is refused. Direct jumps say where they lead.
// Computed ones do not: `switch` becomes a jump to an address from a table. Rather than follow how the address was computed,
// every place that the body names and that could be a table is read as one, in each of the three forms that compilers use:
// 32-bit differences to the table's own address (PIC), 32-bit differences in code that is not position independent, and
// addresses. A table ends where an entry does not lead into code. A place that is no table at worst refuses a function.
#include "arch/x86_64/body.hpp"

#include <cstring>

#include "arch/jump_targets.hpp"

namespace shunt::core::arch::x86_64 {
namespace {

constexpr std::uint32_t kTableEntries = 4096;  // more than any switch that a compiler makes a table of

class Reader {
 public:
  Reader(const Function &function, std::uint32_t displaced, std::uint32_t site, std::uint32_t changed)
      : function_(function), entry_(function.body.address), displaced_(displaced), site_(site), changed_(changed) {}

  BodyFacts run() {
    read(&Reader::look);
    if (facts_.refusal != Refusal::none || !has_computed_jump_) return facts_;
    read(&Reader::look_for_table);
    // A jump to an address in a register is a call at the end of the function, unless the address may be one of its own code.
    if (!has_table_ && (must_have_table_ || names_own_code_)) refuse(Refusal::unknown_jump_table, computed_at_);
    return facts_;
  }

 private:
  using Look = void (Reader::*)(const Instruction &, std::uint32_t);

  void read(Look what) {
    read_part(function_.body, what);
    for (const Bytes &part : function_.parts) read_part(part, what);
  }

  void read_part(const Bytes &code, Look what) {
    for (std::size_t at = 0; at < code.size && facts_.refusal == Refusal::none;) {
      Instruction instruction;
      // Offsets of other parts wrap around: they are where the part is, seen from the entry.
      const auto offset = static_cast<std::uint32_t>(code.address + at - entry_);
      if (!decode(code, at, instruction)) return refuse(Refusal::unknown_instruction, offset);
      (this->*what)(instruction, offset);
      at += instruction.length;
    }
  }

  void refuse(Refusal refusal, std::uint32_t at) {
    if (facts_.refusal != Refusal::none) return;
    facts_.refusal = refusal;
    facts_.refused_at = at;
  }

  [[nodiscard]] bool leads_back(std::uint64_t target) const { return target - entry_ < site_ + changed_; }
  void jumps_to(std::uint64_t target, std::uint32_t at) {
    if (leads_back(target)) refuse(Refusal::jumps_back, at);
  }

  void look(const Instruction &instruction, std::uint32_t at) {
    if (instruction.kind == Kind::odd_relative) return refuse(Refusal::unknown_instruction, at);
    if (instruction.kind == Kind::jump_through) look_at_computed_jump(instruction, at);
    const std::uint64_t named = instruction.target - entry_;
    if (instruction.is_lea && instruction.names_memory_by_rip && named > 0 && named < function_.body.size)
      names_own_code_ = true;
    if (at < displaced_) return;
    // A call of the function itself is a call like any other's; a call further in is not.
    const bool calls_inside = instruction.kind == Kind::call && instruction.target != entry_;
    if (instruction.jumps() || calls_inside) jumps_to(instruction.target, at);
    if (instruction.uses(entry_ + site_, entry_ + site_ + changed_)) refuse(Refusal::reads_own_code, at);
  }

  void look_at_computed_jump(const Instruction &instruction, std::uint32_t at) {
    // Through a slot of the GOT, or through an object's table of functions: a call at the end of the function.
    if (instruction.has_memory && !instruction.has_index) return;
    has_computed_jump_ = true;
    computed_at_ = at;
    must_have_table_ = must_have_table_ || instruction.has_memory;
  }

  void look_for_table(const Instruction &instruction, std::uint32_t at) {
    if (instruction.is_lea && instruction.names_memory_by_rip) {
      read_table<std::int32_t>(instruction.target, instruction.target, at);
      read_table<std::uint64_t>(instruction.target, 0, at);
    }
    if (instruction.absolute != 0) {
      read_table<std::int32_t>(instruction.absolute, instruction.absolute, at);
      read_table<std::uint64_t>(instruction.absolute, 0, at);
    }
  }

  template <class Entry>
  void read_table(std::uint64_t table, std::uint64_t base, std::uint32_t at) {
    const Bytes *where = holding(table);
    if (where == nullptr) return;
    const Bytes &text = function_.text.size != 0 ? function_.text : function_.body;
    std::uint32_t inside = 0;
    for (std::uint32_t k = 0; k < kTableEntries; ++k) {
      const std::uint64_t entry_at = table + k * sizeof(Entry);
      if (!where->contains(entry_at, sizeof(Entry))) break;
      Entry entry;
      std::memcpy(&entry, where->at(entry_at), sizeof entry);
      const std::uint64_t target = base + static_cast<std::uint64_t>(entry);
      if (!text.contains(target, 1)) break;
      if (is_own(target)) ++inside;
      jumps_to(target, at);
    }
    has_table_ = has_table_ || inside > 0;
  }

  [[nodiscard]] const Bytes *holding(std::uint64_t address) const {
    for (const Bytes &data : function_.data)
      if (data.contains(address, sizeof(std::int32_t))) return &data;
    if (function_.text.contains(address, sizeof(std::int32_t))) return &function_.text;
    return function_.body.contains(address, sizeof(std::int32_t)) ? &function_.body : nullptr;
  }

  [[nodiscard]] bool is_own(std::uint64_t target) const {
    if (function_.body.contains(target, 1)) return true;
    for (const Bytes &part : function_.parts)
      if (part.contains(target, 1)) return true;
    return false;
  }

  const Function &function_;
  const std::uint64_t entry_;
  const std::uint32_t displaced_, site_, changed_;
  BodyFacts facts_;
  bool has_computed_jump_ = false, names_own_code_ = false, must_have_table_ = false, has_table_ = false;
  std::uint32_t computed_at_ = 0;
};

}  // namespace

BodyFacts look_at_body(const Function &function, std::uint32_t displaced, std::uint32_t site, std::uint32_t changed) {
  return Reader(function, displaced, site, changed).run();
}

}  // namespace shunt::core::arch::x86_64

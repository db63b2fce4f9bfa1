// call_frames.hpp: how the frames of a function are unwound, and the same for its trampoline.
//
// A call among the displaced instructions returns into the trampoline, so an exception or a backtrace walks through it. The
// unwinder needs to know there, too, where the caller's frame is; the displaced instructions are just those that change it
// (push rbp; mov rbp, rsp; sub rsp). The description that the compiler made for them holds in the trampoline as it is, except
// for the places: so the trampoline's is a copy of it, rule by rule, with each "from here on" moved to where the same instruction
// went. No rule is interpreted. What a function says about exceptions that it catches itself is left out: a function that
// catches what a displaced call throws is not redirected (Refusal::has_landing_pads).
//
// Sources: Linux Standard Base Core 5.0, 10.6 "Exception Frames"; DWARF 5, 6.4 "Call Frame Information". Every byte read is
// hostile until checked.
#pragma once

#include "arch/code.hpp"

namespace shunt::core {

/// What .eh_frame says about one function.
struct CallFrame {
  std::uint64_t begin = 0, end = 0;  // addresses of its code
  bool has_landing_pads = false;     // it has a table of what it catches or cleans up
  bool is_signal_frame = false;      // it is returned to by the kernel, not by a return
  std::uint64_t code_alignment = 1;
  std::int64_t data_alignment = 1;
  std::uint64_t return_register = 0;
  bool signs_with_key_b = false;  // aarch64: how its return addresses are signed
  arch::Bytes first_rules, rules;
};

class CallFrames {
 public:
  /// `header`: the segment PT_GNU_EH_FRAME. `image`: the loaded bytes of the object around it that hold .eh_frame.
  CallFrames(const arch::Bytes &header, const arch::Bytes &image);

  /// How many functions are described. 0 as well when there is no table that can be searched.
  [[nodiscard]] std::size_t size() const { return count_; }
  /// The k-th by address. False when its description cannot be understood.
  bool at(std::size_t k, CallFrame &frame) const;
  /// The first that begins behind `address`: at() takes it. size() when there is none.
  [[nodiscard]] std::size_t first_behind(std::uint64_t address) const;
  /// The one that holds `address`. False when there is none.
  bool find(std::uint64_t address, CallFrame &frame) const;

 private:
  [[nodiscard]] std::uint64_t entry(std::size_t k, std::size_t word) const;

  arch::Bytes header_, image_;
  std::size_t table_ = 0, count_ = 0;
};

/// How many bytes trampoline_frame() writes at most.
std::size_t trampoline_frame_bound(const CallFrame &frame);

/// Writes a description for __register_frame(), with its end mark, of a trampoline of `size` bytes at `trampoline`. `function` is
/// the address that the function's offsets in `boundaries` count from. Returns how many bytes that is; 0 when the
/// function's own description holds something that cannot be moved. The bytes must stay where they are while registered, aligned
/// to 8; they name no address but the trampoline's.
std::size_t trampoline_frame(const CallFrame &frame, std::uint64_t function, std::span<const arch::Boundary> boundaries,
                             std::uint64_t trampoline, std::uint32_t size, std::span<std::uint8_t> out);

}  // namespace shunt::core

#include "arch/code.hpp"

namespace shunt::core::arch {

const char *form_name(JumpForm form) {
  switch (form) {
    case JumpForm::in_padding:
      return "short jump to padding";
    case JumpForm::whole:
      return "jump";
    case JumpForm::over_padding:
      return "jump over padding";
    case JumpForm::refused:
      break;
  }
  return "refused";
}

const char *refusal_text(Refusal refusal) {
  switch (refusal) {
    case Refusal::none:
      break;
    case Refusal::no_decoder:
      return "cannot be decoded: the decoder's library is not installed";
    case Refusal::size_unknown:
      return "has no believable size in its symbol";
    case Refusal::too_short:
      return "is too short for a jump, and nothing around it is padding";
    case Refusal::falls_through:
      return "is too short for a jump and runs on into what follows it";
    case Refusal::unknown_instruction:
      return "holds bytes that are no known instruction";
    case Refusal::jumps_back:
      return "jumps back to the bytes that would change, and cannot be copied as a whole";
    case Refusal::jumped_into:
      return "is jumped into by other code, to the bytes that would change";
    case Refusal::unknown_jump_table:
      return "has a computed jump whose targets cannot be told";
    case Refusal::unrelocatable:
      return "begins with an instruction that cannot be moved";
    case Refusal::reads_own_address:
      return "begins with a call that reads its own address";
    case Refusal::reads_own_code:
      return "reads the bytes that would change as data";
    case Refusal::has_landing_pads:
      return "begins with a call whose exceptions it may catch itself";
  }
  return "can be redirected";
}

}  // namespace shunt::core::arch

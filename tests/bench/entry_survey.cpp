// entry-survey LIBRARY…: plans an entry redirect of every function of these libraries, and prints how many can be redirected, in
// which form, and why the others cannot. The answer is 1 when in one library fewer than 95 % of the functions of 5 bytes and more
// can be. Nothing is written. With ENTRY_SURVEY_VERBOSE each refused function is named.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "arch/native_code.hpp"
#include "library_functions.hpp"

namespace {

using namespace shunt::core;

struct Row {
  std::size_t functions = 0, plannable = 0;
  std::map<std::string, std::size_t> forms, refusals;
};

Row survey(const Library &library, bool is_verbose) {
  Row row;
  for (std::size_t k = 0; k < library.functions().size(); ++k) {
    const arch::Function function = library.function(k);
    if (function.body.size < 5) continue;
    const arch::EntryPlan plan = arch::NativeCode::plan(function);
    row.functions += 1;
    if (plan.form != arch::JumpForm::refused) {
      row.plannable += 1;
      row.forms[std::string(plan.copies_body ? "copy, " : "") + arch::form_name(plan.form)] += 1;
      continue;
    }
    row.refusals[arch::refusal_text(plan.refusal)] += 1;
    if (is_verbose)
      std::printf("%#" PRIx64 " +%#x of %zu %s %s\n", function.body.address - library.base(), plan.refused_at,
                  function.body.size, library.functions()[k].name.c_str(), arch::refusal_text(plan.refusal));
  }
  return row;
}

}  // namespace

int main(int count, char **arguments) {
  const bool is_verbose = std::getenv("ENTRY_SURVEY_VERBOSE") != nullptr;
  if (!arch::NativeCode::ready()) {
    std::printf("the decoder's library is not installed\n");
    return 77;
  }
  bool is_enough = true;
  for (int k = 1; k < count; ++k) {
    Library library;
    if (!library.load(arguments[k])) return 2;
    const Row row = survey(library, is_verbose);
    const double percent =
        row.functions == 0 ? 0 : 100.0 * static_cast<double>(row.plannable) / static_cast<double>(row.functions);
    std::printf("%-24s %6zu functions, %6.2f %% plannable\n", arguments[k], row.functions, percent);
    for (const auto &[name, number] : row.forms) std::printf("  %6zu  %s\n", number, name.c_str());
    for (const auto &[name, number] : row.refusals) std::printf("  %6zu  refused: %s\n", number, name.c_str());
    is_enough = is_enough && percent >= 95;
  }
  return is_enough ? 0 : 1;
}

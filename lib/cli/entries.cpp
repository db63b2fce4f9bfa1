#include "cli/entries.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "arch/native_code.hpp"

namespace shunt::cli {
namespace {

using core::arch::EntryPlan;
using core::arch::JumpForm;
using core::arch::NativeCode;

std::string joined(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

FileFunctions::FileFunctions(const core::ElfFile &file) : path_(file.path) {
  if (file.machine->number != core::arch::Native::kMachine || !file.machine->is_64_bit) {
    unreadable_ = std::string("is for ") + file.machine->name + "; entries are looked at for this machine only, " +
                  core::arch::Native::kName;
    return;
  }
  const core::Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  auto image = core::FileImage::read(fd.get(), path_.c_str(), core::FileImage::Accept::programs);
  if (!image) {
    unreadable_ = "cannot be laid out: " + image.error().message;
    return;
  }
  image_ = std::make_unique<core::FileImage>(std::move(*image));
  core::ObjectFacts facts;
  core::Problem problem;
  if (!core::ObjectFacts::copy(image_->image(), path_.c_str(), facts, problem)) {
    unreadable_ = std::string("cannot be looked at: ") + problem.message;
    return;
  }
  auto functions = core::ObjectFunctions::read(facts);
  if (!functions) {
    unreadable_ = "cannot be looked at: " + functions.error().message;
    return;
  }
  functions_ = std::move(*functions);
  code_ = core::ObjectCode(image_->image());
}

std::vector<core::FunctionName> FileFunctions::named(const std::string &name) const { return functions_.named(name); }

bool FileFunctions::is_called_inside(std::uintptr_t function) {
  const core::arch::Bytes *const text = code_.text_at(function);
  const core::arch::JumpTargets *const jumps = text != nullptr ? code_.jumps(*text) : nullptr;
  return jumps != nullptr && jumps->leads_to(function);
}

OfflineEntry FileFunctions::entry_of(const core::FunctionName &function, const std::vector<std::string> &also) {
  OfflineEntry entry;
  entry.path = path_;
  entry.name = function.name;
  entry.source = function.source;
  entry.names_from = names_from();
  entry.address = address_in_file(function.address);
  entry.size = function.size;
  std::vector<std::string> strangers;
  for (const core::FunctionName &one : functions_.at(function.address)) {
    if (std::find(entry.names.begin(), entry.names.end(), one.name) != entry.names.end()) continue;
    entry.names.emplace_back(one.name);
    const bool is_meant =
        entry.names.back() == function.name || std::find(also.begin(), also.end(), one.name) != also.end();
    if (!is_meant) strangers.push_back(entry.names.back());
  }
  for (const core::FunctionName &one : functions_.clones_of(function.name)) entry.clones.emplace_back(one.name);

  const auto description = functions_.describe(function.address, code_);
  if (!description) {
    entry.why = "is not known: " + description.error().message;
    return entry;
  }
  entry.size = description->function.body.size;
  entry.cold_parts = description->parts.size();
  const EntryPlan plan = NativeCode::plan(description->function);
  if (plan.form == JumpForm::refused) {
    entry.why = std::string(core::arch::refusal_text(plan.refusal)) + " (at +" + std::to_string(plan.refused_at) +
                "; it has " + std::to_string(entry.size) + " bytes)";
    return entry;
  }
  entry.form = core::arch::form_name(plan.form);
  entry.is_chosen = strangers.empty();
  if (!entry.is_chosen)
    entry.why = "has further names, whose calls would be redirected as well: " + joined(strangers) +
                " (accept them by name with --also, or redirect slots)";
  return entry;
}

std::string hexadecimal(std::uint64_t number) {
  char text[20];
  std::snprintf(text, sizeof text, "%#" PRIx64, number);
  return text;
}

bool find_inlined_in(const std::string &path, const std::vector<std::string> &wanted,
                     std::map<std::string, InlinedCopies> &copies, std::string &why) {
  core::SymbolFile file;
  if (!core::SymbolFile::open(path.c_str(), file, why)) return false;
  if (find_inlined(file.fd(), wanted, copies, why)) return true;
  std::string tried;
  const auto debug = core::find_debug_file({file.build_id(), &file, core::kDebugRoot}, tried);
  return debug && find_inlined(debug->fd(), wanted, copies, why);
}

}  // namespace shunt::cli

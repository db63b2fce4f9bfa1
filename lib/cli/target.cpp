#include "cli/target.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "cli/family.hpp"

namespace shunt::cli {
namespace {

bool is_number(const std::string &word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Process process_of_number(const std::string &word) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), pid);
  std::optional<Process> process = error == std::errc() && pid > 0 ? read_process(pid) : std::nullopt;
  if (!process || process->is_dead)
    throw Failure{Exit::unreachable, "no_process", "there is no process " + word,
                  "`shunt ps` lists those with shunt in them."};
  return *process;
}

bool has_name(const Process &process, const std::string &word) {
  return !word.empty() && (process.name == word || process.program.substr(process.program.rfind('/') + 1) == word);
}

/// Is it a forked child, of any generation, of one of these?
bool comes_from(const Process &process, const std::vector<Process> &others) {
  return std::any_of(others.begin(), others.end(), [&](const Process &other) {
    return other.pid == process.parent && process.is_forked_like(other);
  });
}

}  // namespace

bool is_file(const std::string &word) {
  std::error_code ignored;
  return !is_number(word) && (word.find('/') != std::string::npos || std::filesystem::exists(word, ignored));
}

Process find_process(const std::string &word) {
  if (is_number(word)) return process_of_number(word);
  std::vector<Process> named;
  for (Process &process : all_processes())
    if (!process.is_dead && has_name(process, word)) named.push_back(std::move(process));
  std::vector<Process> roots;
  for (const Process &process : named)
    if (!comes_from(process, named)) roots.push_back(process);
  if (roots.size() > 1) {  // a program of the same name without shunt is not the one that is meant
    std::vector<Process> with_shunt;
    std::copy_if(roots.begin(), roots.end(), std::back_inserter(with_shunt),
                 [](const Process &process) { return has_shunt(process.pid); });
    if (!with_shunt.empty()) roots = std::move(with_shunt);
  }
  if (roots.empty())
    throw Failure{Exit::unreachable, "no_process", "no process is called '" + word + "'",
                  "`shunt ps` lists those with shunt in them."};
  if (roots.size() > 1 && are_one_family(roots))  // whose first process has ended
    return *std::min_element(roots.begin(), roots.end(),
                             [](const Process &a, const Process &b) { return a.started < b.started; });
  if (roots.size() > 1) {
    std::string pids;
    for (const Process &process : roots) pids += (pids.empty() ? "" : ", ") + std::to_string(process.pid);
    throw Failure{Exit::usage, "several_processes", "several processes are called '" + word + "': " + pids,
                  "Name one by its number."};
  }
  return roots.front();
}

core::ElfFile read_elf(const std::string &path) {
  core::Result<core::ElfFile> file = core::ElfFile::open(path);
  if (file) return std::move(*file);
  const core::Error &error = file.error();
  const bool is_unreadable = error.code == core::Code::patch_unreadable;
  throw Failure{is_unreadable ? Exit::usage : Exit::no, core::code_name(error.code), error.message, ""};
}

}  // namespace shunt::cli

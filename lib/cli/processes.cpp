#include "cli/processes.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

namespace shunt::cli {
namespace {

std::string proc(pid_t pid, const char *file) { return "/proc/" + std::to_string(pid) + "/" + file; }

std::string link_target(const std::string &path) {
  char target[4096];
  const ssize_t size = readlink(path.c_str(), target, sizeof target);
  return size > 0 ? std::string(target, static_cast<std::size_t>(size)) : "";
}

struct CloseFolder {
  void operator()(DIR *folder) const { closedir(folder); }
};

/// Calls with each name in the folder that is a number.
template <class Visit>
bool for_each_number(const std::string &path, Visit visit) {
  const std::unique_ptr<DIR, CloseFolder> folder(opendir(path.c_str()));
  if (!folder) return false;
  while (const dirent *entry = readdir(folder.get())) {
    char *end = nullptr;
    const long number = std::strtol(entry->d_name, &end, 10);
    if (end != entry->d_name && *end == '\0') visit(number);
  }
  return true;
}

/// The owner of /proc/PID would be root for a process that changed its user.
uid_t effective_user(pid_t pid) {
  std::ifstream stream(proc(pid, "status"));
  uid_t real = 0, effective = 0;
  for (std::string line; std::getline(stream, line);)
    if (line.rfind("Uid:", 0) == 0) std::istringstream(line.substr(4)) >> real >> effective;
  return effective;
}

/// The inodes of all sockets among the process's descriptors.
std::set<std::string> socket_inodes(pid_t pid) {
  std::set<std::string> inodes;
  const std::string folder = proc(pid, "fd");
  for_each_number(folder, [&](long number) {
    const std::string target = link_target(folder + "/" + std::to_string(number));
    constexpr std::string_view kSocket = "socket:[";
    if (target.rfind(kSocket, 0) == 0) inodes.insert(target.substr(kSocket.size(), target.size() - kSocket.size() - 1));
  });
  return inodes;
}

bool has_thread_named(pid_t pid, const std::string &name) {
  bool is_there = false;
  const std::string folder = proc(pid, "task");
  for_each_number(folder, [&](long number) {
    std::string line;
    if (!is_there && std::getline(std::ifstream(folder + "/" + std::to_string(number) + "/comm"), line))
      is_there = line == name;
  });
  return is_there;
}

}  // namespace

std::optional<Process> read_process(pid_t pid) {
  std::ifstream stream(proc(pid, "stat"));
  std::string text;
  if (!std::getline(stream, text, '\0')) return std::nullopt;
  // "PID (NAME) STATE PPID …": the name may have blanks and parentheses, so count from the last one.
  const std::size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  Process process;
  process.pid = pid;
  process.name = text.substr(open + 1, close - open - 1);
  std::vector<std::string> fields = {"", "", ""};  // so that they are numbered as in proc(5), from 3 on
  std::istringstream rest(text.substr(close + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  constexpr std::size_t kState = 3, kParent = 4, kStarted = 22, kCodeStart = 26, kStackStart = 28;
  if (fields.size() <= kStackStart) return std::nullopt;
  const auto number = [&](std::size_t field) { return std::strtoull(fields[field].c_str(), nullptr, 10); };
  process.parent = static_cast<pid_t>(number(kParent));
  process.started = number(kStarted);
  process.code_start = number(kCodeStart);
  process.stack_start = number(kStackStart);
  process.is_dead = fields[kState] == "Z" || fields[kState] == "X";
  process.is_stopped = fields[kState] == "T";
  process.uid = effective_user(pid);
  process.program = link_target(proc(pid, "exe"));
  struct stat status {};
  if (stat(proc(pid, "exe").c_str(), &status) == 0) {
    process.device = status.st_dev;
    process.inode = status.st_ino;
  }
  return process;
}

std::vector<Process> all_processes() {
  std::vector<Process> processes;
  for_each_number("/proc", [&](long number) {
    if (std::optional<Process> process = read_process(static_cast<pid_t>(number)))
      processes.push_back(std::move(*process));
  });
  std::sort(processes.begin(), processes.end(), [](const Process &a, const Process &b) { return a.pid < b.pid; });
  return processes;
}

bool may_inspect(pid_t pid) {
  return for_each_number(proc(pid, "fd"), [](long) {}) && access(proc(pid, "exe").c_str(), F_OK) == 0;
}

bool has_shunt(pid_t pid) {
  std::ifstream stream(proc(pid, "maps"));
  for (std::string line; std::getline(stream, line);) {
    const std::string name = line.substr(line.rfind('/') + 1);
    if (name.rfind("libshunt-preload.so", 0) == 0 || name.rfind("libshunt.so", 0) == 0) return true;
  }
  return false;
}

std::vector<std::string> listening_paths(pid_t pid) {
  if (!has_thread_named(pid, "shunt")) return {};
  const std::set<std::string> inodes = socket_inodes(pid);
  std::vector<std::string> paths;
  std::ifstream stream(proc(pid, "net/unix"));
  std::string line;
  std::getline(stream, line);  // the titles
  while (!inodes.empty() && std::getline(stream, line)) {
    // Num RefCount Protocol Flags Type St Inode Path; Flags has __SO_ACCEPTCON for one that listens, Type 5 is SEQPACKET.
    std::istringstream fields(line);
    std::string number, references, protocol, flags, type, state, inode, path;
    fields >> number >> references >> protocol >> flags >> type >> state >> inode;
    std::getline(fields >> std::ws, path);
    constexpr unsigned long kAccepts = 0x10000;
    const bool listens = (std::strtoul(flags.c_str(), nullptr, 16) & kAccepts) != 0;
    if (listens && type == "0005" && !path.empty() && path[0] == '/' && inodes.count(inode) > 0) paths.push_back(path);
  }
  return paths;
}

}  // namespace shunt::cli

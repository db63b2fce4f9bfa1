// program.hpp: the program target, running with the shim in it, and a folder for its patches.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace preload {

namespace fs = std::filesystem;

inline std::string text_of(const fs::path &path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A patch or program that was built for this test.
inline fs::path built(const std::string &name) { return fs::path(getenv("BUILT")) / name; }
inline fs::path patch(const std::string &name) { return built(name + ".so"); }

/// Does it come true? Asked again and again until a deadline: what another process does by itself (a thread that starts, a file that
/// is noticed) tells nobody when it is done. The pause leaves the processor to that process.
template <class Predicate>
bool becomes_true(Predicate predicate) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// A folder of its own for each test: "patches" in it for SHUNT_DIR, and beside it room for files that are not there yet.
class Workplace {
 public:
  Workplace() {
    std::string path = fs::temp_directory_path() / "shunt-preload-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
    fs::create_directory(folder());
    fs::permissions(folder(), static_cast<fs::perms>(0755));  // whatever the umask: a group may not write it
  }
  Workplace(const Workplace &) = delete;
  Workplace &operator=(const Workplace &) = delete;
  ~Workplace() { fs::remove_all(path_); }

  [[nodiscard]] fs::path operator/(const std::string &name) const { return path_ / name; }
  [[nodiscard]] const fs::path &root() const { return path_; }
  [[nodiscard]] fs::path folder() const { return path_ / "patches"; }
  /// A copy of the patch, beside the folder.
  [[nodiscard]] fs::path copy(const std::string &name) const {
    fs::copy_file(patch(name), path_ / "copy.so", fs::copy_options::overwrite_existing);
    return path_ / "copy.so";
  }
  /// Puts the patch into the folder as `file`, the way that it should be done.
  void rename_in(const std::string &name, const std::string &file) const { fs::rename(copy(name), folder() / file); }
  void take_out(const std::string &file) const { fs::remove(folder() / file); }

 private:
  fs::path path_;
};

/// The running program. It is told to quit at the end.
class Program {
 public:
  Program(const Workplace &place, std::vector<std::string> environment, const std::string &name = "target")
      : errors_(place / "stderr") {
    int commands[2], answers[2];
    EXPECT_EQ(pipe2(commands, O_CLOEXEC) + pipe2(answers, O_CLOEXEC), 0);
    const int errors = open(errors_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (const char *shim = getenv("SHIM")) environment.push_back("LD_PRELOAD=" + std::string(shim));
    for (const char *name : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"})
      if (const char *value = getenv(name)) environment.push_back(std::string(name) + "=" + value);
    const bool says_where = std::any_of(environment.begin(), environment.end(),
                                        [](const std::string &one) { return one.rfind("SHUNT_SOCKET=", 0) == 0; });
    if (!says_where) environment.push_back("XDG_RUNTIME_DIR=" + place.root().string());
    std::vector<char *> variables;
    for (std::string &variable : environment) variables.push_back(variable.data());
    variables.push_back(nullptr);
    std::string path = built(name);
    char *const arguments[] = {path.data(), nullptr};
    pid_ = fork();
    if (pid_ == 0) {
      dup2(commands[0], STDIN_FILENO);
      dup2(answers[1], STDOUT_FILENO);
      dup2(errors, STDERR_FILENO);
      execve(path.c_str(), arguments, variables.data());
      _exit(127);
    }
    close(commands[0]);
    close(answers[1]);
    close(errors);
    commands_ = commands[1];
    answers_ = fdopen(answers[0], "r");
    hello_ = read_line();
  }
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;
  ~Program() { quit(); }

  /// What it said at the start of main().
  [[nodiscard]] const std::string &hello() const { return hello_; }
  [[nodiscard]] std::string ask(std::string command) {
    command += '\n';
    EXPECT_EQ(write(commands_, command.data(), command.size()), static_cast<ssize_t>(command.size()));
    return read_line();
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// What was written to stderr so far.
  [[nodiscard]] std::string said() const { return text_of(errors_); }
  [[nodiscard]] std::size_t times_said(const std::string &text) const {
    std::size_t count = 0;
    const std::string all = said();
    for (std::size_t at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) ++count;
    return count;
  }
  [[nodiscard]] bool will_say(const std::string &text) const {
    return becomes_true([&] { return times_said(text) > 0; });
  }
  [[nodiscard]] bool will_answer(const std::string &answer) {
    return becomes_true([&] { return ask("answer") == answer; });
  }
  /// Ends it where it cannot end by itself.
  void kill_it() {
    close(commands_);
    commands_ = -1;
    fclose(answers_);
    kill(pid_, SIGKILL);
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
  }
  /// Ends it; everything that it had to say has been said then.
  void quit() {
    if (commands_ < 0) return;
    close(commands_);
    commands_ = -1;
    fclose(answers_);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status << "; " << said();
  }

 private:
  std::string read_line() {
    char line[4096];
    if (fgets(line, sizeof line, answers_) == nullptr) {
      ADD_FAILURE() << "the program has ended; it said: " << said();
      return "";
    }
    return std::string(line, strcspn(line, "\n"));
  }

  fs::path errors_;
  pid_t pid_ = -1;
  int commands_ = -1;
  FILE *answers_ = nullptr;
  std::string hello_;
};

/// The names of a process's threads.
inline std::vector<std::string> threads_of(pid_t pid) {
  std::vector<std::string> names;
  for (const auto &task : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream file(task.path() / "comm");
    std::getline(file, names.emplace_back());
  }
  return names;
}

}  // namespace preload

// The shim in a program that knows nothing of it: its variables, its folder, its signal, its log, its one thread.
//
// Shown to fail (each guard of lib/preload and lib/control taken out, the test seen to fail, the guard put back): see at each test.
#include <sys/syscall.h>

#include <algorithm>
#include <sstream>

#include "program.hpp"

namespace {

using namespace preload;
using namespace std::string_literals;

// ---- SHUNT_PATCH

// control.cpp: apply_at_start() not called; registry.cpp: the patch not kept (it is reverted when its handle goes).
TEST(PreloadPatch, IsAppliedBeforeMain) {
  const Workplace place;
  Program program(place, {"SHUNT_PATCH=" + patch("answer_11").string()});

  EXPECT_EQ(program.hello(), "main 11");
  EXPECT_EQ(program.ask("answer"), "11");
  EXPECT_EQ(program.ask("second"), "2");
  EXPECT_EQ(program.said(), "");
}

// environment.cpp: no split at ':'.
TEST(PreloadPatch, MayBeSeveral) {
  const Workplace place;
  Program program(place, {"SHUNT_PATCH=" + patch("answer_11").string() + "::" + patch("second_22").string()});

  EXPECT_EQ(program.ask("answer"), "11");
  EXPECT_EQ(program.ask("second"), "22");
}

// folder.cpp, load_and_apply(): an error ends the program, or is not said.
TEST(PreloadPatch, ThatIsBrokenIsSaidOnceAndTheProgramRuns) {
  const Workplace place;
  const std::string broken = place / "broken.so", missing = place / "missing.so";
  std::ofstream(broken) << "not a library";
  Program program(place, {"SHUNT_PATCH=" + broken + ":" + missing + ":" + patch("answer_11").string()});

  EXPECT_EQ(program.hello(), "main 11");
  EXPECT_EQ(program.times_said("not applied: " + broken), 1U) << program.said();
  EXPECT_EQ(program.times_said("not applied: " + missing), 1U) << program.said();
  EXPECT_EQ(program.times_said("\n"), 2U) << program.said();
}

// The variables are inherited by whatever the program runs, most of which the patch is not for. registry.cpp: the level is an
// error's; folder.cpp: each look is taken for the first.
TEST(PreloadPatch, ThatMatchesNothingIsNoComplaintAtTheStart) {
  const Workplace place;
  place.rename_in("nowhere_1", "fix.so");
  const std::string by_name = "SHUNT_PATCH=" + patch("nowhere_1").string();
  const std::string by_folder = "SHUNT_DIR=" + place.folder().string();
  Program quiet(place, {by_name, by_folder});
  EXPECT_EQ(quiet.hello(), "main 1");
  EXPECT_EQ(quiet.said(), "");
  place.rename_in("nowhere_1", "later.so");
  EXPECT_TRUE(quiet.will_say("later.so: no loaded object calls")) << "somebody put it there for this very program";

  Program tells(place, {by_name, by_folder, "SHUNT_LOG=info"});
  EXPECT_EQ(tells.times_said(": info: not applied: "), 3U) << tells.said();
}

// ---- the thread

// control.cpp, start(): the thread started whether there is something to wait for or not.
TEST(PreloadThread, IsNotStartedWithoutAFolderAndASocket) {
  const Workplace place;
  Program bare(place, {"SHUNT_SOCKET=off"});
  EXPECT_EQ(threads_of(bare.pid()).size(), 1U);
  EXPECT_EQ(bare.said(), "");

  Program patched(place, {"SHUNT_PATCH=" + patch("answer_11").string(), "SHUNT_LOG=info", "SHUNT_SOCKET=off"});
  EXPECT_EQ(threads_of(patched.pid()).size(), 1U);
}

/// The task of the process's thread `shunt`.
fs::path shunt_thread(pid_t pid) {
  for (const auto &task : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task"))
    if (text_of(task.path() / "comm") == "shunt\n") return task.path();
  return "/nonexistent";
}

/// How often the kernel has switched to and from it.
std::string switches_of(const fs::path &task) {
  const std::string status = text_of(task / "status");
  const std::size_t at = status.find("voluntary_ctxt_switches");
  return at == std::string::npos ? "" : status.substr(at);
}

// control.cpp, timeout_ms(): 1 where there is nothing to wait for.
TEST(PreloadThread, IsNeverWokenWhileNobodyAsksIt) {
  const Workplace place;
  Program program(place, {});
  // The number of poll() and its three arguments, the last of them the time: for ever.
  const auto sleeps = [&] {
    std::istringstream call(text_of(shunt_thread(program.pid()) / "syscall"));
    std::string number, sources, count, milliseconds;
    call >> number >> sources >> count >> milliseconds;
    return number == std::to_string(SYS_poll) && milliseconds == "0xffffffff";
  };
  if (text_of(shunt_thread(program.pid()) / "syscall").empty())
    GTEST_SKIP() << "the kernel does not tell what a thread waits for";
  ASSERT_TRUE(becomes_true(sleeps)) << text_of(shunt_thread(program.pid()) / "syscall");
  const std::string before = switches_of(shunt_thread(program.pid()));
  ASSERT_NE(before, "");

  for (int k = 0; k < 1000; ++k) ASSERT_EQ(program.ask("answer"), "1");

  EXPECT_EQ(switches_of(shunt_thread(program.pid())), before);
}

std::uint64_t blocked_signals(pid_t pid, const std::string &thread) {
  for (const auto &task : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    const std::string status = text_of(task.path() / "status");
    if (status.find("Name:\t" + thread + "\n") == std::string::npos) continue;
    return std::stoull(status.substr(status.find("SigBlk:\t") + 8, 16), nullptr, 16);
  }
  return 0;
}

// control.cpp: no pthread_setname_np(); no pthread_sigmask() around pthread_create().
TEST(PreloadThread, HasANameAndBlocksEverySignalOfTheApplication) {
  const Workplace place;
  const Program program(place, {"SHUNT_DIR=" + place.folder().string()});

  ASSERT_TRUE(becomes_true([&] {
    const auto names = threads_of(program.pid());
    return names.size() == 2 && std::count(names.begin(), names.end(), "shunt") == 1;
  }));
  const std::uint64_t blocked = blocked_signals(program.pid(), "shunt");
  for (int number = 1; number <= 64; ++number) {
    // Two cannot be blocked, two are the C library's own.
    if (number == SIGKILL || number == SIGSTOP || number == 32 || number == 33) continue;
    EXPECT_NE(blocked & 1UL << (number - 1), 0U) << "signal " << number;
  }
}

// ---- SHUNT_DIR

// control.cpp, start(): no look before the thread starts. folder.cpp: every name is a patch's.
TEST(PreloadFolder, IsLookedThroughBeforeMain) {
  const Workplace place;
  for (const char letter : "abcdefghij"s) place.rename_in("answer_12", letter + ".so"s);
  place.rename_in("answer_11", "last.so");
  place.rename_in("second_22", "not-a-patch.txt");
  place.rename_in("second_22", ".hidden.so");
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});

  EXPECT_EQ(program.hello(), "main 11") << "in the order of their names";
  EXPECT_EQ(program.ask("second"), "2");
}

// folder_watch.cpp: IN_MOVED_TO not watched; IN_MOVED_FROM not watched; IN_DELETE not watched.
TEST(PreloadFolder, AppliesWhatIsRenamedIntoItAndRevertsWhatIsTakenOut) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});
  EXPECT_EQ(program.hello(), "main 1");

  place.rename_in("answer_11", "fix.so");
  EXPECT_TRUE(program.will_answer("11"));
  fs::rename(place.folder() / "fix.so", place / "kept.so");
  EXPECT_TRUE(program.will_answer("1"));
  fs::rename(place / "kept.so", place.folder() / "fix.so");
  EXPECT_TRUE(program.will_answer("11"));
  place.take_out("fix.so");
  EXPECT_TRUE(program.will_answer("1"));
  EXPECT_EQ(program.said(), "");
}

// folder.cpp, look_at_locked(): a name that is known not looked at again; the predecessor not reverted.
TEST(PreloadFolder, UpgradesAPatchThatIsRenamedOver) {
  const Workplace place;
  place.rename_in("answer_11", "fix.so");
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});

  place.rename_in("answer_12", "fix.so");
  EXPECT_TRUE(program.will_answer("12"));
  place.take_out("fix.so");
  EXPECT_TRUE(program.will_answer("1")) << "the first is not to come back";
}

// folder.cpp, look_at_locked(): the predecessor reverted whatever became of the new file.
TEST(PreloadFolder, KeepsAPatchWhenItsUpgradeIsRefused) {
  const Workplace place;
  place.rename_in("answer_11", "fix.so");
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});

  std::ofstream(place / "broken") << "not a library";
  fs::rename(place / "broken", place.folder() / "fix.so");
  EXPECT_TRUE(program.will_say("not applied: "));
  EXPECT_EQ(program.ask("answer"), "11");
  place.take_out("fix.so");
  EXPECT_TRUE(program.will_answer("1"));
}

// folder_watch.cpp: IN_CLOSE_WRITE or IN_CREATE watched as well.
TEST(PreloadFolder, DoesNotTakeAFileThatIsWrittenInPlace) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string(), "SHUNT_SIGNAL=USR2"});

  place.rename_in("second_22", "earlier.so");  // once this is seen, what is there at the start has been looked at
  ASSERT_TRUE(becomes_true([&] { return program.ask("second") == "22"; }));

  fs::copy_file(patch("answer_11"), place.folder() / "fix.so");
  place.take_out("earlier.so");  // once this is seen, the other has been passed over
  ASSERT_TRUE(becomes_true([&] { return program.ask("second") == "2"; }));
  EXPECT_EQ(program.ask("answer"), "1");

  kill(program.pid(), SIGUSR2);
  EXPECT_TRUE(program.will_answer("11"));
}

// control.cpp: no handler installed (the program dies), or the handler writes nothing. environment.cpp: no number taken.
TEST(PreloadFolder, IsLookedThroughAgainOnASignal) {
  for (const std::string name : {"USR1", "SIGUSR1", "10"}) {
    SCOPED_TRACE(name);
    const Workplace place;
    Program program(place, {"SHUNT_DIR=" + place.folder().string(), "SHUNT_SIGNAL=" + name});
    fs::copy_file(patch("answer_11"), place.folder() / "fix.so");

    kill(program.pid(), SIGUSR1);

    EXPECT_TRUE(program.will_answer("11"));
  }
}

// control.cpp, look_whether_taken_over() does nothing.
TEST(PreloadFolder, SaysOnceThatTheApplicationHasTakenTheSignalOver) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string(), "SHUNT_SIGNAL=USR1"});
  EXPECT_EQ(program.ask("take " + std::to_string(SIGUSR1)), "taken");

  EXPECT_TRUE(program.will_say("the application has taken SIGUSR1 over"));
  place.rename_in("answer_11", "fix.so");
  EXPECT_TRUE(program.will_answer("11")) << "the folder is watched all the same";
  EXPECT_EQ(program.times_said("taken SIGUSR1 over"), 1U);
}

// environment.cpp: no complaint.
TEST(PreloadFolder, SaysThatASignalCannotBeUsed) {
  const Workplace place;
  for (const std::string name : {"NONSENSE", "KILL", "0", "65", "USR1x"}) {
    Program program(place, {"SHUNT_DIR=" + place.folder().string(), "SHUNT_SIGNAL=" + name});
    EXPECT_EQ(program.times_said("SHUNT_SIGNAL=" + name + " names no signal"), 1U) << program.said();
  }
  Program program(place, {"SHUNT_SIGNAL=USR1"});
  EXPECT_EQ(program.times_said("without SHUNT_DIR"), 1U) << program.said();
}

// base/trust.hpp, why_not_trusted() answers nothing.
TEST(PreloadFolder, RefusesAFileThatOthersMayWrite) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});
  const fs::path copy = place.copy("answer_11");
  fs::permissions(copy, fs::perms::others_write, fs::perm_options::add);

  fs::rename(copy, place.folder() / "fix.so");

  EXPECT_TRUE(program.will_say("fix.so: others may write it"));
  EXPECT_EQ(program.ask("answer"), "1");
}

TEST(PreloadFolder, RefusesAFileThatBelongsToSomebodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});
  const fs::path copy = place.copy("answer_11");
  ASSERT_EQ(chown(copy.c_str(), 65534, 65534), 0);

  fs::rename(copy, place.folder() / "fix.so");

  EXPECT_TRUE(program.will_say("fix.so: it belongs neither to root nor to the process's user"));
  EXPECT_EQ(program.ask("answer"), "1");
}

// folder.cpp, folder_is_safe() answers true.
TEST(PreloadFolder, IsNotUsedWhenOthersMayWriteIt) {
  const Workplace place;
  place.rename_in("answer_11", "fix.so");
  fs::permissions(place.folder(), fs::perms::others_write, fs::perm_options::add);
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});

  EXPECT_EQ(program.hello(), "main 1");
  EXPECT_TRUE(program.will_say("is not used: others may write it"));
}

// control.cpp, start(): an error ends the program, or is not said.
TEST(PreloadFolder, ThatIsMissingIsSaidAndTheProgramRuns) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=/nonexistent"});
  EXPECT_EQ(program.hello(), "main 1");
  EXPECT_TRUE(program.will_say("SHUNT_DIR=/nonexistent"));
}

// control.cpp, repair(): nothing done about the folder; wake.hpp: an eventfd, which nobody tells that it was closed.
TEST(PreloadFolder, IsStillWatchedWhenTheApplicationClosedEveryDescriptor) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string()});
  ASSERT_TRUE(becomes_true([&] { return threads_of(program.pid()).size() == 2; }));
  EXPECT_EQ(program.ask("close"), "closed");

  place.rename_in("answer_11", "fix.so");

  EXPECT_TRUE(program.will_answer("11"));
  EXPECT_EQ(threads_of(program.pid()).size(), 2U);
}

// ---- children

// control.cpp: no handler for the child of a fork.
TEST(PreloadChild, FollowsTheFolderByAThreadOfItsOwn) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string(), "SHUNT_SIGNAL=USR1"});
  place.rename_in("second_22", "first.so");
  ASSERT_TRUE(becomes_true([&] { return program.ask("second") == "22"; }));

  ASSERT_EQ(program.ask("fork"), "in the child");
  const pid_t child = std::stoi(program.ask("pid"));
  ASSERT_NE(child, program.pid());
  EXPECT_EQ(program.ask("second"), "22");
  EXPECT_TRUE(becomes_true([&] {
    const auto names = threads_of(child);
    return std::count(names.begin(), names.end(), "shunt") == 1;
  }));
  place.rename_in("answer_11", "fix.so");
  EXPECT_TRUE(program.will_answer("11"));
  place.take_out("first.so");
  EXPECT_TRUE(becomes_true([&] { return program.ask("second") == "2"; }));
  fs::copy_file(patch("second_22"), place.folder() / "in-place.so");
  kill(child, SIGUSR1);
  EXPECT_TRUE(becomes_true([&] { return program.ask("second") == "22"; }));

  EXPECT_EQ(program.ask("quit"), "in the parent");
  EXPECT_TRUE(program.will_answer("11")) << "it followed as well, meanwhile";
  EXPECT_EQ(program.ask("second"), "2") << "the signal was the child's";
}

// control.cpp: the thread of a child waits before it has looked through the folder once.
TEST(PreloadChild, SeesWhatCameWhileItWasForked) {
  for (int round = 0; round < 10; ++round) {
    const Workplace place;
    Program program(place, {"SHUNT_DIR=" + place.folder().string()});
    const fs::path copy = place.copy("answer_11");

    ASSERT_EQ(program.ask("rename " + copy.string() + " " + (place.folder() / "fix.so").string()), "in the child");

    ASSERT_TRUE(program.will_answer("11")) << "in round " << round;
    ASSERT_EQ(program.ask("quit"), "in the parent");
  }
}

// ---- SHUNT_LOG

// log.cpp, say(): the level not looked at, or every line at one level.
TEST(PreloadLog, TellsWhatItsLevelAllows) {
  struct Case {
    const char *level;
    bool debug, info, error;
  };
  for (const Case &one : {Case{"debug", true, true, true}, Case{"info", false, true, true},
                          Case{"warning", false, false, true}, Case{"error", false, false, true}}) {
    SCOPED_TRACE(one.level);
    const Workplace place;
    Program program(place,
                    {"SHUNT_PATCH=" + patch("answer_11").string() + ":/nonexistent.so", "SHUNT_LOG="s + one.level});
    program.quit();
    EXPECT_EQ(program.times_said(": debug: ") > 0, one.debug) << program.said();
    EXPECT_EQ(program.times_said(": info: ") > 0, one.info) << program.said();
    EXPECT_EQ(program.times_said(": error: not applied: /nonexistent.so") > 0, one.error) << program.said();
    EXPECT_EQ(program.times_said("shunt[" + std::to_string(program.pid()) + "]: ") > 0, one.error);
  }
}

// log.cpp, start_log(): the file not opened.
TEST(PreloadLog, GoesToAFile) {
  const Workplace place;
  const std::string log = place / "log";
  Program program(place, {"SHUNT_PATCH=" + patch("answer_11").string(), "SHUNT_LOG=info:" + log});
  program.quit();

  EXPECT_EQ(program.said(), "");
  const std::string text = text_of(log);
  EXPECT_NE(text.find("Z shunt[" + std::to_string(program.pid()) + "]: info: applied " + patch("answer_11").string()),
            std::string::npos)
      << text;
}

// environment.cpp: no complaint; log.cpp: none about a file that cannot be opened.
TEST(PreloadLog, ThatCannotBeUsedIsSaidOnStderr) {
  const Workplace place;
  {
    Program program(place, {"SHUNT_LOG=loud"});
    EXPECT_EQ(program.times_said("SHUNT_LOG=loud is not debug, info, warning or error"), 1U) << program.said();
  }
  Program program(place, {"SHUNT_LOG=info:/nonexistent/log", "SHUNT_PATCH=" + patch("answer_11").string()});
  EXPECT_EQ(program.times_said("cannot open the log /nonexistent/log"), 1U) << program.said();
  EXPECT_GT(program.times_said("applied " + patch("answer_11").string()), 0U) << program.said();
}

// ---- one engine

// lib/shunt.map: the shim keeps shunt_* to itself.
TEST(PreloadEngine, IsTheOneOfTheProgramToo) {
  const Workplace place;
  Program program(place, {"SHUNT_DIR=" + place.folder().string()}, "server");
  EXPECT_EQ(program.ask("engine"), getenv("SHIM"));

  EXPECT_EQ(program.ask("redirect"), "done");
  EXPECT_EQ(program.ask("answer"), "101");
  place.rename_in("answer_11", "fix.so");
  EXPECT_TRUE(program.will_answer("11"));
  EXPECT_EQ(program.ask("conflicts"), "0") << "a layer above is no stranger";
  place.take_out("fix.so");
  EXPECT_TRUE(program.will_answer("101"));
}

// lib/shunt.map: the shim keeps shunt_* to itself. control.cpp, start(): nobody asks whether it runs already.
TEST(PreloadEngine, HasOneSocketThoughTheProgramWantsOneToo) {
  const Workplace place;
  Program both(place, {}, "server");
  const std::string socket = both.ask("socket");
  ASSERT_NE(socket, "");
  EXPECT_EQ(both.ask("control"), "the control thread runs already, at " + socket);
  EXPECT_EQ(both.ask("socket"), socket);
  EXPECT_EQ(threads_of(both.pid()).size(), 2U);
  EXPECT_EQ(std::distance(fs::directory_iterator(place / "shunt"), fs::directory_iterator()), 1);

  Program off(place, {"SHUNT_SOCKET=off"}, "server");  // who starts the program has the last word
  EXPECT_EQ(off.ask("control"), "started");
  EXPECT_EQ(off.ask("socket"), "");
  EXPECT_EQ(threads_of(off.pid()).size(), 1U);
  EXPECT_EQ(both.said() + off.said(), "");
}

}  // namespace

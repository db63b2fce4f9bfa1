// The control socket of a running program, asked by clients that mean well: every request, who may ask, which files are taken,
// and what is left when the program forks, closes everything, or dies. hostile.cpp has the others.
//
// Shown to fail (the guard named at each test taken out of lib/control, the test seen to fail, the guard put back).
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "served.hpp"

namespace {

using namespace control_test;

#if defined(__has_feature)
#define SHUNT_HAS_FEATURE(name) __has_feature(name)
#else
#define SHUNT_HAS_FEATURE(name) 0
#endif
constexpr bool kIsThreadSanitized = SHUNT_HAS_FEATURE(thread_sanitizer);

// control.cpp: no pthread_setname_np(). socket_file.cpp: the folder made with another mode.
TEST(Control, SaysHello) {
  const Workplace place;
  Served served(place);
  EXPECT_EQ(served.hello(), "main 1");
  EXPECT_EQ(served.socket(), place / "shunt" / (std::to_string(served.pid()) + ".sock"));
  EXPECT_TRUE(becomes_true([&] {
    const auto names = threads_of(served.pid());
    return std::count(names.begin(), names.end(), "shunt") == 1;
  }));

  const json hello = ask(served.socket(), {});

  EXPECT_EQ(hello["schema"], 1);
  EXPECT_EQ(hello["ok"], true);
  EXPECT_EQ(hello["pid"], served.pid());
  EXPECT_EQ(hello["namespace_pids"].back(), served.pid());
  EXPECT_EQ(hello["uid"], geteuid());
  EXPECT_EQ(hello["exe"], fs::canonical(built("served")).string());
  EXPECT_EQ(hello["socket"], served.socket());
  EXPECT_EQ(fs::status(place / "shunt").permissions(), fs::perms::owner_all);
}

TEST(Control, ListsImports) {
  const Workplace place;
  Served served(place);
  Request request;
  request.type = Type::imports;
  request.symbols = {"answ*"};
  request.callers = {"served"};

  const json answer = ask(served.socket(), request);

  ASSERT_EQ(answer["objects"].size(), 1U) << answer;
  const json import = answer["objects"][0]["imports"][0];
  EXPECT_EQ(import["symbol"], "answer");
  EXPECT_GE(import["slots"], 1);
  EXPECT_NE(import["state"], "absent");
  request.symbols = {"no_such_symbol"};
  EXPECT_EQ(ask(served.socket(), request)["objects"].size(), 0U);
}

// requests.cpp: plan() loads the patch.
TEST(Control, PlansWithoutRunningThePatch) {
  const Workplace place;
  Served served(place);

  const json planned = ask_about(served.socket(), Type::plan, patch("constructed"));

  EXPECT_EQ(planned["ok"], true) << planned;
  EXPECT_EQ(planned["patch"]["name"], "constructed");
  EXPECT_EQ(planned["patch"]["sha256"].get<std::string>().size(), 64U);
  const json function = planned["plan"]["functions"][0];
  EXPECT_EQ(function["symbol"], "answer");
  EXPECT_EQ(function["slots"], 1);
  EXPECT_EQ(function["callers"][0]["object"], fs::canonical(built("served")).string());
  EXPECT_NE(planned["plan"]["coverage"].get<std::string>().find("answer: 1 slot"), std::string::npos);
  EXPECT_EQ(served.ask("answer"), "1");
  EXPECT_EQ(served.times_said("its constructor ran"), 0U);
  EXPECT_EQ(status(served.socket())["patches"].size(), 0U);
  EXPECT_EQ(code_of(ask_about(served.socket(), Type::plan, patch("nowhere_1"))), "patch_matches_nothing");
}

// registry.cpp: no record made, or none taken out.
TEST(Control, AppliesTellsAndReverts) {
  const Workplace place;
  Served served(place);

  const json applied = ask_about(served.socket(), Type::apply, patch("answer_11"));

  EXPECT_EQ(applied["ok"], true) << applied;
  EXPECT_EQ(applied["written"]["slots"], 1);
  EXPECT_EQ(applied["written"]["objects"].size(), 1U);
  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(ask_about(served.socket(), Type::apply, patch("answer_12"), "upper")["ok"], true);
  EXPECT_EQ(served.ask("answer"), "12");
  EXPECT_EQ(served.ask("redirect"), "done");

  const json now = status(served.socket(), true);
  ASSERT_EQ(now["patches"].size(), 2U);
  const json &first = now["patches"][0], &second = now["patches"][1];
  EXPECT_EQ(first["name"], "answer_11");
  EXPECT_EQ(first["state"], "applied");
  EXPECT_EQ(first["sha256"], applied["patch"]["sha256"]);
  EXPECT_EQ(first["by"]["how"], "control");
  EXPECT_EQ(first["by"]["pid"], getpid());
  EXPECT_EQ(first["conflicts"], 0);
  EXPECT_EQ(first["functions"][0]["layer"], 1);
  EXPECT_EQ(first["functions"][0]["layers"], 2);
  EXPECT_EQ(second["functions"][0]["layer"], 2);
  EXPECT_EQ(now["redirects"][0]["symbol"], "second");
  EXPECT_EQ(now["verified"]["conflicts"].size(), 0U);
  EXPECT_EQ(now["verified"]["slots"], 3);
  EXPECT_EQ(served.times_said("applied " + patch("answer_11").string()), 1U) << "the audit line";
  EXPECT_EQ(served.times_said("sha256 " + first["sha256"].get<std::string>()), 1U);

  EXPECT_EQ(revert(served.socket(), "answer_11")["reverted"][0]["name"], "answer_11");
  EXPECT_EQ(served.ask("answer"), "12");
  EXPECT_EQ(revert(served.socket(), "")["reverted"].size(), 1U);
  EXPECT_EQ(served.ask("answer"), "1");
  EXPECT_EQ(code_of(revert(served.socket(), "upper")), "unknown_patch");
  const json after = status(served.socket());
  EXPECT_EQ(after["patches"][0]["state"], "reverted");
  EXPECT_EQ(after["counters"], json({{"applied", 2}, {"reverted", 2}, {"refused", 1}}));
}

// control.cpp: round() does not drain, or timeout_ms() does not know when.
TEST(Control, UnloadsWhatWasReverted) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer calls swapcontext(): with it every patch is kept";
#endif
  const Workplace place;
  Served served(place);
  const auto is_mapped = [&] {
    return text_of("/proc/" + std::to_string(served.pid()) + "/maps").find("/memfd:answer_11") != std::string::npos;
  };
  for (const bool keeps : {false, true}) {
    ASSERT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"))["ok"], true);
    Request request;
    request.type = Type::revert;
    request.name = "answer_11";
    request.keep = keeps;

    const json reverted = ask(served.socket(), request);

    EXPECT_EQ(reverted["ok"], true) << reverted;
    EXPECT_EQ(reverted["reverted"][0]["code"]["state"] == "kept", keeps) << reverted;
    const auto is_unloaded = [&] { return status(served.socket())["patches"][0]["code"]["state"] == "unloaded"; };
    EXPECT_TRUE(keeps || becomes_true(is_unloaded)) << status(served.socket());
    EXPECT_EQ(is_mapped(), keeps);
    EXPECT_EQ(served.ask("answer"), "1");
  }
}

// requests.cpp: check_name() not asked, and prepare() neither.
TEST(Control, RefusesANameThatIsTaken) {
  const Workplace place;
  Served served(place);
  ASSERT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"), "fix")["ok"], true);

  const json refused = ask_about(served.socket(), Type::apply, patch("constructed"), "fix");

  EXPECT_EQ(code_of(refused), "name_taken");
  EXPECT_NE(refused["error"]["message"].get<std::string>().find("revert it first"), std::string::npos);
  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(served.times_said("its constructor ran"), 0U);
}

// file_rules.cpp: S_IWOTH not looked at. requests.cpp: force_permissions not looked at, or not logged.
TEST(Control, RefusesAFileThatOthersMayWrite) {
  const Workplace place;
  Served served(place);
  const fs::path copy = place.copy("answer_11");
  fs::permissions(copy, fs::perms::others_write, fs::perm_options::add);

  EXPECT_EQ(code_of(ask_about(served.socket(), Type::apply, copy)), "not_permitted");
  EXPECT_EQ(served.ask("answer"), "1");
  EXPECT_EQ(served.times_said("not applied: " + copy.string()), 1U) << served.said();

  Request forced = about(Type::apply, copy);
  forced.force_permissions = true;
  const Fd fd(open(copy.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ask(served.socket(), forced, fd.get())["ok"], true);
  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(served.times_said("is taken by force"), 1U) << served.said();
}

// registry.cpp: shown() cuts nothing. log.cpp: control characters written as they are.
TEST(Control, TellsWhoAskedWhateverThePatchIsCalled) {
  const Workplace place;
  Served served(place);
  const fs::path name = "/" + std::string(4000, 'a') + "\nforged: applied by nobody";
  const Fd fd(open(patch("answer_11").c_str(), O_RDONLY | O_CLOEXEC));

  ASSERT_EQ(ask(served.socket(), about(Type::apply, name, "fix"), fd.get())["ok"], true);
  EXPECT_EQ(code_of(ask(served.socket(), about(Type::apply, name, "fix"), fd.get())), "name_taken");

  EXPECT_EQ(served.times_said("; by control, uid " + std::to_string(geteuid())), 2U) << served.said();
  EXPECT_EQ(served.times_said("\nforged"), 0U) << served.said();
}

// file_rules.cpp and patch_file.cpp: the file's kind not looked at; patch_file.cpp: the size looked at neither before nor while it
// is read.
TEST(Control, RefusesWhatIsNoPatchFile) {
  const Workplace place;
  Served served(place);
  EXPECT_EQ(code_of(ask_about(served.socket(), Type::apply, "/dev/zero")), "patch_unreadable");
  EXPECT_EQ(code_of(ask_about(served.socket(), Type::apply, place.root())), "patch_unreadable");
  std::ofstream(place / "large.so");
  fs::resize_file(place / "large.so", std::uintmax_t{10} << 30);  // a hole
  const json large = ask_about(served.socket(), Type::apply, place / "large.so");
  EXPECT_EQ(code_of(large), "patch_unreadable");
  EXPECT_NE(large["error"]["message"].get<std::string>().find("larger than 256 MiB"), std::string::npos) << large;
  EXPECT_EQ(code_of(ask(served.socket(), about(Type::apply, patch("answer_11")))), "bad_request") << "no descriptor";
  const Fd without_reading(open(patch("answer_11").c_str(), O_PATH | O_CLOEXEC));
  EXPECT_EQ(code_of(ask(served.socket(), about(Type::apply, "x.so"), without_reading.get())), "patch_unreadable");
  EXPECT_EQ(served.ask("answer"), "1");
}

// patch_file.cpp: the file opened by its name instead of the descriptor.
TEST(Control, LoadsWhatWasCheckedThoughTheNameLeadsElsewhereNow) {
  const Workplace place;
  Served served(place);
  const fs::path link = place / "link.so";
  fs::create_symlink(patch("answer_11"), link);
  const Fd fd(open(link.c_str(), O_RDONLY | O_CLOEXEC));
  fs::remove(link);
  fs::create_symlink(patch("constructed"), link);

  ASSERT_EQ(ask(served.socket(), about(Type::apply, link), fd.get())["ok"], true);

  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(served.times_said("its constructor ran"), 0U);
}

// server.cpp: the peer not asked for its user.
TEST(Control, RefusesAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const Workplace place;
  fs::permissions(place.root(), fs::perms::others_read | fs::perms::others_exec | fs::perms::owner_all);
  fs::create_directory(place / "open");
  Served served(place, {"SHUNT_SOCKET=" + (place / "open" / "socket").string()});
  ASSERT_EQ(served.socket(), place / "open" / "socket");
  fs::permissions(served.socket(), fs::perms::all);  // more than shunt gives: only the question for the user is left

  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    const auto client = Client::connect(served.socket(), kLimit);
    if (!client) _exit(3);
    _exit(json::parse(client->hello())["error"]["code"] == "not_permitted" ? 0 : 4);
  }
  int end = 0;
  ASSERT_EQ(waitpid(child, &end, 0), child);

  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 0) << end;
  EXPECT_TRUE(served.will_say("a client of the control socket is refused: uid 65534"));
  EXPECT_EQ(ask(served.socket(), {})["ok"], true);
}

// socket_file.cpp, make_folder(): neither the owner nor why_not_trusted() asked; the mode of a private one not looked at; O_NOFOLLOW
// left out.
TEST(Control, UsesNoFolderThatIsNotSafe) {
  const Workplace place;
  fs::create_directory(place / "loose");
  fs::permissions(place / "loose", fs::perms::all);
  Served loose(place, {"SHUNT_SOCKET=" + (place / "loose" / "socket").string()});
  EXPECT_NE(loose.hello().find("others may write it"), std::string::npos) << loose.hello();
  EXPECT_EQ(loose.socket(), "");
  EXPECT_FALSE(fs::exists(place / "loose" / "socket"));

  const auto is_used = [](const Workplace &where) {
    const Served served(where);
    return served.socket().rfind(where.root().string(), 0) == 0;
  };
  fs::create_directory(place / "real");
  fs::permissions(place / "real", fs::perms::owner_all);
  fs::create_directory_symlink(place / "real", place / "shunt");
  EXPECT_FALSE(is_used(place)) << "it is a symbolic link";
  const Workplace open_to_others;
  fs::create_directory(open_to_others / "shunt");
  fs::permissions(open_to_others / "shunt", fs::perms::owner_all | fs::perms::others_exec);
  EXPECT_FALSE(is_used(open_to_others));
  fs::permissions(open_to_others / "shunt", fs::perms::owner_all);
  EXPECT_TRUE(is_used(open_to_others)) << "what was wrong is put right";
  if (geteuid() != 0) return;  // only root can give a folder away
  ASSERT_EQ(chown((open_to_others / "shunt").c_str(), 65534, 65534), 0);
  EXPECT_FALSE(is_used(open_to_others));
}

// control.cpp: no atexit(); socket_file.cpp: remove_stale_sockets() does nothing, or removes all.
TEST(Control, LeavesNoSocketBehind) {
  const Workplace place;
  std::string path;
  {
    Served served(place);
    path = served.socket();
    EXPECT_TRUE(fs::exists(path));
  }
  EXPECT_FALSE(fs::exists(path));

  Served lives(place);
  const fs::path dead = place / "shunt" / "999999999.sock";  // no process has this number
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, dead.c_str());
  {
    const Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
  }
  Served next(place);
  EXPECT_TRUE(becomes_true([&] { return !fs::exists(dead); }));
  EXPECT_TRUE(fs::exists(lives.socket()));
}

// registry.cpp, revert(): a patch that somebody else reverted is told as a failure.
TEST(Control, RevertsWhatTheFolderApplied) {
  const Workplace place;
  place.rename_in("answer_11", "fix.so");
  Served served(place, {"FOLDER=" + place.folder().string()});
  EXPECT_EQ(served.hello(), "main 11");
  EXPECT_EQ(status(served.socket())["patches"][0]["by"]["how"], "SHUNT_DIR");

  EXPECT_EQ(revert(served.socket(), "fix")["ok"], true);
  EXPECT_EQ(served.ask("answer"), "1");
  place.take_out("fix.so");
  place.rename_in("second_22", "fix.so");

  EXPECT_TRUE(becomes_true([&] { return served.ask("second") == "22"; }));
  EXPECT_EQ(served.ask("answer"), "1");
  EXPECT_EQ(served.times_said("not reverted"), 0U) << served.said();
}

// server.cpp, repair() does nothing; guarded_fd.cpp, is_ours() answers true.
TEST(Control, MakesItsSocketAnewWhenTheProgramClosedItAndTouchesNothingElse) {
  if (kIsThreadSanitized)
    GTEST_SKIP() << "a program that closes what another thread uses: ThreadSanitizer calls it a race";
  const Workplace place;
  Served served(place);
  auto client = Client::connect(served.socket(), kLimit);
  ASSERT_TRUE(client);
  const auto before = fs::current_path();

  EXPECT_EQ(served.ask("reuse"), "reused");

  EXPECT_TRUE(becomes_true([&] { return bool(Client::connect(served.socket(), kLimit)); }));
  EXPECT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"))["ok"], true);
  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(served.ask("mine"), "all are mine");
  EXPECT_FALSE(client->ask({})) << "its connection was closed by the program";
  fs::remove(before / "mine");
}

// control.cpp, after_fork_in_child(): nothing closed, or no thread started.
TEST(Control, GivesAChildASocketOfItsOwn) {
  const Workplace place;
  Served served(place);
  auto parents = Client::connect(served.socket(), kLimit);
  ASSERT_TRUE(parents);
  ASSERT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"))["ok"], true);

  ASSERT_EQ(served.ask("fork"), "in the child");

  std::string socket;
  ASSERT_TRUE(becomes_true([&] { return !(socket = served.ask("socket")).empty(); }));
  EXPECT_NE(socket, served.socket());
  EXPECT_EQ(std::to_string(ask(socket, {})["pid"].get<int>()), served.ask("pid"));
  EXPECT_EQ(status(socket)["patches"][0]["name"], "answer_11");
  EXPECT_EQ(revert(socket, "answer_11")["ok"], true);
  EXPECT_EQ(served.ask("answer"), "1") << "in the child";
  EXPECT_EQ(parsed(parents->ask({}))["pid"], served.pid()) << "the parent answers its client";
  EXPECT_EQ(ask(served.socket(), {})["pid"], served.pid());
  EXPECT_EQ(served.ask("quit"), "in the parent");
  EXPECT_FALSE(fs::exists(socket));
  EXPECT_EQ(served.ask("answer"), "11") << "in the parent";
}

// requests.cpp: no Away around the load (the fork waits for ever); owned_mutex.hpp: the child does not get the mutex anew (its
// thread waits for ever).
TEST(Control, LetsTheProgramForkThoughAConstructorNeverReturns) {
  if (kIsThreadSanitized)
    GTEST_SKIP() << "the child's mutex is made anew: ThreadSanitizer still knows its holder in the parent";
  const Workplace place;
  Served served(place);
  const Fd fd(open(patch("hanging").c_str(), O_RDONLY | O_CLOEXEC));
  auto client = Client::connect(served.socket(), kLimit);
  ASSERT_TRUE(client);
  std::thread asking([&] { (void)client->ask(about(Type::apply, patch("hanging")), fd.get()); });
  ASSERT_TRUE(served.will_say("its constructor hangs"));

  ASSERT_EQ(served.ask("fork"), "in the child");
  ASSERT_EQ(served.ask("fork"), "in the child") << "and the child's child";

  std::string socket;
  ASSERT_TRUE(becomes_true([&] { return !(socket = served.ask("socket")).empty(); }));
  EXPECT_EQ(status(socket)["patches"].size(), 0U);
  EXPECT_EQ(ask_about(socket, Type::apply, patch("answer_11"))["ok"], true);
  EXPECT_EQ(served.ask("answer"), "11");
  EXPECT_EQ(served.ask("quit"), "in the parent");
  EXPECT_EQ(served.ask("quit"), "in the parent");
  EXPECT_EQ(served.ask("answer"), "1") << "the program goes on, but for its exit()";
  served.kill_it();
  asking.join();
}

// control.cpp, run(): the child's thread does not wait. (The child execs at once: the few milliseconds are not awaited here.)
TEST(Control, LeavesNothingOfAChildThatExecs) {
  const Workplace place;
  Served served(place);
  for (int round = 0; round < 20; ++round) ASSERT_EQ(served.ask("exec"), "in the parent");

  std::size_t files = 0;
  for ([[maybe_unused]] const auto &file : fs::directory_iterator(place / "shunt")) ++files;
  EXPECT_EQ(files, 1U);
}

// control.cpp, start_thread(): the signals not blocked.
TEST(Control, TakesNoSignalOfTheProgram) {
  const Workplace place;
  Served served(place);
  ASSERT_EQ(ask(served.socket(), {})["ok"], true);
  EXPECT_EQ(served.ask("signals 500"), "500");
}

}  // namespace

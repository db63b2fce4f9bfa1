// main.cpp: the shunt command: its verbs and options, and how a verb's failure becomes a sentence and an exit code.
#include <shunt/version.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <functional>

#include "cli/changes.hpp"
#include "cli/check.hpp"
#include "cli/console.hpp"
#include "cli/imports.hpp"
#include "cli/status.hpp"

namespace shunt::cli {
namespace {

using Verb = std::function<Exit(const Console &)>;

/// What every verb has: the heading of its --help, an example, --json.
CLI::App *add_verb(CLI::App &app, bool &is_json, const char *name, const char *summary, const char *example) {
  CLI::App *verb = app.add_subcommand(name, summary);
  verb->add_flag("--json", is_json, "answer with one JSON document");
  verb->footer(std::string("Example: ") + example);
  return verb;
}

template <class Options>
void add_patch_options(CLI::App *verb, Options &options) {
  const auto add_list = [verb](const char *name, std::vector<std::string> &list, const char *type, const char *what) {
    verb->add_option(name, list, what)->type_name(type)->allow_extra_args(false);
  };
  add_list("--symbol", options.symbols, "NAME[=REPLACEMENT]",
           "only this function of the patch, or in place of another (repeatable)");
  add_list("--caller", options.callers, "GLOB", "only calls made by these objects (repeatable)");
  add_list("--not-caller", options.not_callers, "GLOB", "no calls made by these objects (repeatable)");
  verb->add_option("--provider", options.provider, "only where this object defines the function")->type_name("GLOB");
  verb->add_option("--reach", options.reach, "by slots, by the function's entry, or both where needed (auto)")
      ->type_name("HOW")
      ->check(CLI::IsMember({"auto", "slots", "entry"}));
  add_list("--also", options.also, "NAME", "another name of the same code, which is meant too (repeatable)");
  verb->add_flag("--dlsym", options.dlsym, "have dlsym() answer with the replacements, too");
}

void add_imports(CLI::App &app, Console &console, Verb &chosen) {
  auto options = std::make_shared<ImportsOptions>();
  CLI::App *verb = add_verb(app, console.is_json, "imports", "what a file or process imports, and through which slots",
                            "shunt imports /usr/bin/redis-server --symbol 'gettime*'");
  verb->add_option("target", options->targets, "a process (its number or name), or files of any machine")
      ->type_name("PID|FILE...")
      ->required();
  verb->add_option("--symbol", options->symbols, "only these; C++ names as written or mangled (repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  verb->add_option("--caller", options->callers, "only in these objects (repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  verb->callback([&chosen, options] { chosen = [options](const Console &to) { return run_imports(*options, to); }; });
}

void add_check(CLI::App &app, Console &console, Verb &chosen) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App *verb = add_verb(app, console.is_json, "check", "what a patch would reach; changes nothing",
                            "shunt check fix.so /usr/sbin/nginx");
  verb->add_option("patch", options->patch, "the patch")->type_name("FIX.so")->required();
  verb->add_option("target", options->targets, "a process, or the files it would be used with")
      ->type_name("PID|FILE...");
  add_patch_options(verb, *options);
  verb->callback([&chosen, options] { chosen = [options](const Console &to) { return run_check(*options, to); }; });
}

void add_apply(CLI::App &app, Console &console, Verb &chosen) {
  auto options = std::make_shared<ApplyOptions>();
  CLI::App *verb = add_verb(app, console.is_json, "apply", "apply a patch to a process and its forked children",
                            "shunt apply 4711 fix.so --caller 'libssl*'");
  verb->add_option("process", options->target, "its number, or its name where one process has it")
      ->type_name("PID")
      ->required();
  verb->add_option("patch", options->patch, "the patch, a shared library")->type_name("FIX.so")->required();
  add_patch_options(verb, *options);
  verb->add_option("--name", options->name, "what to call it; by default the file's name without .so")
      ->type_name("NAME");
  verb->add_flag("--force-permissions", options->force_permissions,
                 "take a file that others may write or own, and log that");
  verb->add_flag("--keep", options->keep, "its code stays mapped after a revert");
  verb->add_flag("--only", options->only_this, "not its forked children");
  verb->callback([&chosen, options] { chosen = [options](const Console &to) { return run_apply(*options, to); }; });
}

void add_revert(CLI::App &app, Console &console, Verb &chosen) {
  auto options = std::make_shared<RevertOptions>();
  CLI::App *verb = add_verb(app, console.is_json, "revert", "take a patch back, in a process and its forked children",
                            "shunt revert nginx fix");
  verb->add_option("process", options->target, "its number, or its name where one process has it")
      ->type_name("PID")
      ->required();
  verb->add_option("name", options->name, "of the patch, as `shunt status` lists it")->type_name("NAME");
  verb->add_flag("--all", options->all, "every patch, the newest first");
  verb->add_flag("--keep", options->keep, "its code stays mapped");
  verb->add_option("--wait", options->wait_seconds, "wait until its code is unloaded; exit 1 where it is not by then")
      ->type_name("SECONDS");
  verb->add_flag("--only", options->only_this, "not its forked children");
  verb->callback([&chosen, options] { chosen = [options](const Console &to) { return run_revert(*options, to); }; });
}

void add_status(CLI::App &app, Console &console, Verb &chosen) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App *verb = add_verb(app, console.is_json, "status", "what is applied in a process and its forked children",
                            "shunt status nginx --verify");
  verb->add_option("process", options->target, "its number, or its name where one process has it")
      ->type_name("PID")
      ->required();
  verb->add_flag("--verify", options->verify, "read every slot again; exit 1 where one holds something else");
  verb->add_flag("--only", options->only_this, "not its forked children");
  verb->callback([&chosen, options] { chosen = [options](const Console &to) { return run_status(*options, to); }; });
}

int run(int count, char **words) {
  // A reader of our output or a process at the other end of a socket may go: that is an error, not our end.
  std::signal(SIGPIPE, SIG_IGN);
  Console console;
  Verb chosen;
  CLI::App app("Redirects calls of running programs, from outside, and takes it back.", "shunt");
  app.set_version_flag("--version", std::string("shunt " SHUNT_VERSION_STRING));
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Exit codes: 0 done, 1 the answer is no, 2 used wrongly, 3 could not reach the process.\n"
      "Example: shunt apply nginx fix.so && shunt status nginx");
  CLI::App *ps = add_verb(app, console.is_json, "ps", "processes that have shunt in them", "shunt ps");
  ps->callback([&chosen] { chosen = [](const Console &to) { return run_ps(to); }; });
  add_imports(app, console, chosen);
  add_check(app, console, chosen);
  add_apply(app, console, chosen);
  add_revert(app, console, chosen);
  add_status(app, console, chosen);
  try {
    app.parse(count, words);
  } catch (const CLI::Success &asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError &wrong) {
    console.report(
        {Exit::usage, "usage", wrong.what(), "`shunt --help` lists the verbs, `shunt VERB --help` its options."});
    return static_cast<int>(Exit::usage);
  }
  console.screen = Screen::of(stdout);
  try {
    const Exit exit = chosen(console);
    if (std::fflush(stdout) == 0) return static_cast<int>(exit);
    Console::complain("the answer could not be written");
    return static_cast<int>(Exit::no);
  } catch (const Failure &failure) {
    console.report(failure);
    return static_cast<int>(failure.exit);
  } catch (const std::exception &error) {
    console.report({Exit::no, "internal", std::string("unexpected: ") + error.what(), ""});
    return static_cast<int>(Exit::no);
  }
}

}  // namespace
}  // namespace shunt::cli

int main(int count, char **words) { return shunt::cli::run(count, words); }

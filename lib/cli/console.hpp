// console.hpp: how a verb answers: a table for a person or one JSON document for a program, and an exit code for both.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/screen.hpp"

namespace shunt::cli {

using Json = nlohmann::ordered_json;

/// The exit codes of the command, which scripts rely on.
enum class Exit : int { done = 0, no = 1, usage = 2, unreachable = 3 };

/// Why a verb gives up: thrown by any of them and caught in main(), so that it is reported in one way.
struct Failure {
  Exit exit;
  std::string code;              // for programs; those of errors.def among them
  std::string message;           // a sentence: what was tried, on what, why it failed
  std::string advice;            // what to do; "" where there is nothing to say
  Json beside = Json::object();  // what a program is told beside it
};

struct Console {
  bool is_json = false;
  Screen screen;

  /// A program's answer is one document, with the schema's number first.
  static Json document();
  void print(const Json &document) const;
  void print(const std::string &text) const;
  void print(const char *text) const { print(std::string(text)); }
  [[nodiscard]] std::string paint(Colour colour, const std::string &text) const { return screen.paint(colour, text); }
  /// To stderr as text, or to stdout as a document.
  void report(const Failure &failure) const;
  /// To stderr, whichever form the answer has: what went wrong beside it.
  static void complain(const std::string &sentence);
};

}  // namespace shunt::cli

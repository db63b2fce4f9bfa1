// screen.hpp: what a person reads: tables that fit the terminal, colour only where it is wanted. Names and paths come from
// files and processes that may be hostile, so that what a terminal would take for a command is never written out.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace shunt::cli {

/// The text with each control character as `?`, and so each byte that is no part of well-formed UTF-8.
std::string printable(std::string_view text);

/// How many columns it takes; one for each character, which is right for the letters of names and paths.
std::size_t width_of(std::string_view text);

/// Cuts to `width` columns, with `...` where something is gone: at the end, or at the start for paths.
std::string cut(const std::string &text, std::size_t width, bool keep_end);

enum class Colour { none, good, bad, faint, strong };

struct Screen {
  std::size_t width = 0;  // 0: no limit (not a terminal)
  bool has_colour = false;

  /// COLUMNS says the width where it is set, else the terminal. Colour only on a terminal, not on a dumb one, and not when
  /// NO_COLOR is set (https://no-color.org).
  static Screen of(std::FILE *file);

  [[nodiscard]] std::string paint(Colour colour, const std::string &text) const;
};

struct Column {
  std::string title;
  enum Kind { name, path, number } kind = name;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// One text for each column; what is missing is empty.
  void add(std::vector<std::string> row);
  [[nodiscard]] bool is_empty() const { return rows_.empty(); }
  /// Lines, each ended. The widest columns that are no numbers are cut until a line fits.
  [[nodiscard]] std::string text(const Screen &screen) const;

 private:
  [[nodiscard]] std::vector<std::size_t> widths(std::size_t limit) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// "1 slot", "2 slots", "2 processes".
std::string counted(std::size_t count, const char *thing);

}  // namespace shunt::cli

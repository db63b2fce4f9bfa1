#include "cli/screen.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace shunt::cli {
namespace {

constexpr std::size_t kNarrowest = 8;  // no column is cut below this
constexpr std::string_view kGap = "  ";

/// The length of the character that begins here, 0 where no well-formed one does.
std::size_t character(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || size > text.size()) return 0;
  for (std::size_t k = 1; k < size; ++k)
    if ((static_cast<unsigned char>(text[k]) & 0xc0) != 0x80) return 0;
  return size;
}

bool is_control(std::string_view one) {
  const auto first = static_cast<unsigned char>(one[0]);
  const bool is_c1 = one.size() == 2 && first == 0xc2 && static_cast<unsigned char>(one[1]) < 0xa0;
  return first < 0x20 || first == 0x7f || is_c1;
}

bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

}  // namespace

std::string printable(std::string_view text) {
  std::string good;
  while (!text.empty()) {
    const std::size_t size = character(text);
    const std::string_view one = text.substr(0, std::max(size, std::size_t{1}));
    good += size == 0 || is_control(one) ? "?" : one;
    text.remove_prefix(one.size());
  }
  return good;
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string cut(const std::string &text, std::size_t width, bool keep_end) {
  constexpr std::string_view kGone = "...";
  if (width_of(text) <= width) return text;
  if (width <= kGone.size()) return std::string(kGone.substr(0, width));
  const std::size_t kept = width - kGone.size();
  std::size_t at = keep_end ? text.size() : 0;
  for (std::size_t count = 0; count < kept;) {
    if (keep_end) {
      if (begins_character(text[--at])) ++count;
    } else if (++at == text.size() || begins_character(text[at])) {
      ++count;
    }
  }
  return keep_end ? std::string(kGone) + text.substr(at) : text.substr(0, at) + std::string(kGone);
}

Screen Screen::of(std::FILE *file) {
  const bool is_terminal = isatty(fileno(file)) == 1;
  const auto value = [](const char *name) {
    const char *text = std::getenv(name);
    return text != nullptr ? text : "";
  };
  Screen screen;
  winsize size{};
  if (is_terminal && ioctl(fileno(file), TIOCGWINSZ, &size) == 0) screen.width = size.ws_col;
  if (const unsigned long columns = std::strtoul(value("COLUMNS"), nullptr, 10); columns > 0) screen.width = columns;
  screen.has_colour = is_terminal && *value("NO_COLOR") == '\0' && std::strcmp(value("TERM"), "dumb") != 0;
  return screen;
}

std::string Screen::paint(Colour colour, const std::string &text) const {
  static constexpr const char *kCodes[] = {"", "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m"};
  if (!has_colour || colour == Colour::none || text.empty()) return text;
  return kCodes[static_cast<std::size_t>(colour)] + text + "\x1b[0m";
}

void Table::add(std::vector<std::string> row) {
  row.resize(columns_.size());
  for (std::string &cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

std::vector<std::size_t> Table::widths(std::size_t limit) const {
  std::vector<std::size_t> widths;
  for (std::size_t k = 0; k < columns_.size(); ++k) {
    std::size_t width = width_of(columns_[k].title);
    for (const auto &row : rows_) width = std::max(width, width_of(row[k]));
    widths.push_back(width);
  }
  const auto total = [&] { return std::accumulate(widths.begin(), widths.end(), kGap.size() * (widths.size() - 1)); };
  while (limit > 0 && total() > limit) {
    std::size_t widest = widths.size();
    for (std::size_t k = 0; k < widths.size(); ++k)
      if (columns_[k].kind != Column::number && widths[k] > std::max(kNarrowest, width_of(columns_[k].title)) &&
          (widest == widths.size() || widths[k] > widths[widest]))
        widest = k;
    if (widest == widths.size()) break;
    --widths[widest];
  }
  return widths;
}

std::string Table::text(const Screen &screen) const {
  const std::vector<std::size_t> widths_of_all = widths(screen.width);
  std::string all;
  const auto line = [&](const std::vector<std::string> &cells, Colour colour) {
    std::string one;
    for (std::size_t k = 0; k < cells.size(); ++k) {
      const std::string cell = cut(cells[k], widths_of_all[k], columns_[k].kind == Column::path);
      const std::string blank(widths_of_all[k] - std::min(widths_of_all[k], width_of(cell)), ' ');
      one += k == 0 ? "" : std::string(kGap);
      one += columns_[k].kind == Column::number ? blank + cell : cell + blank;
    }
    one.erase(one.find_last_not_of(' ') + 1);
    all += screen.paint(colour, one) + "\n";
  };
  std::vector<std::string> titles;
  for (const Column &column : columns_) titles.push_back(column.title);
  line(titles, Colour::strong);
  for (const auto &row : rows_) line(row, Colour::none);
  return all;
}

std::string counted(std::size_t count, const char *thing) {
  const std::string word = thing;
  return std::to_string(count) + " " + word + (count == 1 ? "" : word.back() == 's' ? "es" : "s");
}

}  // namespace shunt::cli

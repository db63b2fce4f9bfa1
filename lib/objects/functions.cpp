#include "objects/functions.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "elf/symbols.hpp"
#include "objects/own_file.hpp"

namespace shunt::core {
namespace {

constexpr std::uint32_t kMaximumTexts = (1U << 30) - 1;  // what Item::name can count
constexpr int kNeighbours =
    64;  // so many symbols are looked at for one that reaches beyond those between: few functions overlap

/// C++ marks a static function by an L before its name's length: _ZL6hiddeni is `static int hidden(int)`, _Z6hiddeni the other.
/// (Itanium C++ ABI, 5.1.2; it says nothing of the L, but every compiler writes it.)
bool is_static_mark(std::string_view name, std::size_t k) {
  return name[k] == 'L' && name.starts_with("_Z") && k + 1 < name.size() && name[k + 1] >= '0' && name[k + 1] <= '9';
}

std::string without_static_marks(std::string_view name) {
  std::string plain;
  for (std::size_t k = 0; k < name.size(); ++k)
    if (!is_static_mark(name, k)) plain += name[k];
  return plain;
}

/// FNV-1a of what stands before the first suffix: the same for a function and all that compilers make of it.
std::uint32_t stem_hash(std::string_view name) {
  std::uint32_t hash = 0x811c9dc5;
  for (std::size_t k = 0; k < name.size() && (k == 0 || name[k] != '.'); ++k)
    if (!is_static_mark(name, k)) hash = (hash ^ static_cast<unsigned char>(name[k])) * 0x01000193;
  return hash;
}

enum class Suffix : std::uint8_t { none, renamed, local_alias, cold, clone, other_name };

/// What `name` is to `stem`, by what stands behind it.
Suffix suffix_of(std::string_view name, std::string_view stem) {
  if (!name.starts_with(stem)) return Suffix::other_name;
  name.remove_prefix(stem.size());
  if (name.empty()) return Suffix::none;
  if (name.front() != '.') return Suffix::other_name;
  Suffix found = Suffix::renamed;
  while (!name.empty()) {
    name.remove_prefix(1);
    const std::string_view word = name.substr(0, name.find('.'));
    name.remove_prefix(word.size());
    if (word == "cold") return Suffix::cold;
    const bool is_number = word.find_first_not_of("0123456789abcdef") == std::string_view::npos;
    if (word == "localalias")
      found = Suffix::local_alias;
    else if (word != "lto_priv" && word != "llvm" && !is_number)
      found = Suffix::clone;
  }
  return found;
}

Suffix suffix_of(std::string_view name) {
  const std::size_t dot = name.find('.', 1);
  return dot == std::string_view::npos ? Suffix::none : suffix_of(name, name.substr(0, dot));
}

}  // namespace

AskedFunction::AskedFunction(std::string_view text) : name(text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return;
  source = text.substr(0, colon);
  name = text.substr(colon + 1);
}

bool AskedFunction::is_source(std::string_view path) const {
  if (!path.ends_with(source)) return false;
  return source.empty() || path.size() == source.size() || path[path.size() - source.size() - 1] == '/';
}

// ---- what is copied under the loader's lock

bool ObjectFacts::copy(const Image &image, const char *path, ObjectFacts &facts, Problem &problem) {
  facts = ObjectFacts();
  facts.path_ = path;
  facts.base_ = image.base();
  facts.low_ = image.low();
  const std::span<const std::uint8_t> id = image.build_id();
  if (id.size() <= sizeof facts.build_id_) {
    std::copy(id.begin(), id.end(), facts.build_id_);
    facts.build_id_size_ = id.size();
  }
  bool has_memory = true;
  for (const Elf64_Phdr &header : image.headers())
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0)
      has_memory = has_memory && facts.code_.push_back({image.base() + header.p_vaddr, header.p_memsz});
  const std::uint32_t count = symbol_count(image);
  for (std::uint32_t k = 1; has_memory && k < count; ++k) has_memory = facts.add(image, image.symbol(k));
  if (!has_memory) problem.set(Code::out_of_memory, "no memory for the names of the functions of %s", path);
  return has_memory;
}

bool ObjectFacts::copy(const Object &object, ObjectFacts &facts, Problem &problem) {
  if (!copy(object.image, object.path, facts, problem)) return false;
  facts.is_loaded_ = true;
  facts.is_executable_ = object.is_executable;
  return true;
}

bool ObjectFacts::add(const Image &image, const Elf64_Sym &symbol) {
  const unsigned type = symbol_type(symbol);
  if (!is_defined(symbol) || (type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_ABS) return true;
  const char *const name = image.string(symbol.st_name);
  const std::size_t size = std::strlen(name) + 1;
  if (names_.size() + size > kMaximumTexts) return true;
  if (!names_.reserve(names_.size() + size) ||
      !symbols_.push_back(
          {image.symbol_address(symbol), symbol.st_size, static_cast<std::uint32_t>(names_.size()), type == STT_FUNC}))
    return false;
  std::memcpy(names_.data() + names_.size(), name, size);
  names_.set_size(names_.size() + size);
  return true;
}

// ---- building

class ObjectFunctions::Builder {
 public:
  Builder(const ObjectFacts &facts, ObjectFunctions &functions) : facts_(facts), functions_(functions) {
    functions_.low_ = facts.low_;
  }

  /// The symbols of a file with .symtab. False when it cannot be read: nothing of it is kept then.
  bool add_file(const SymbolFile &file, std::string &why) {
    std::uint32_t source = 0;
    if (!file.read_strings(functions_.texts_, why)) return fail();
    no_source_ = source = static_cast<std::uint32_t>(functions_.texts_.size() - 1);
    const bool is_read = file.for_each_symbol(
        [&](const Elf64_Sym &symbol) {
          if (symbol.st_name >= functions_.texts_.size()) return;
          if (symbol_type(symbol) == STT_FILE)
            source = symbol.st_name;
          else
            add(symbol, symbol_binding(symbol) == STB_LOCAL ? source : no_source_);
        },
        why);
    if (!is_read) return fail();
    sort();
    return true;
  }

  /// The symbols of .dynsym: most are known by now.
  void add_exported() {
    if (functions_.texts_.empty() && !functions_.texts_.push_back('\0')) has_memory_ = false;
    const std::size_t known = functions_.items_.size();
    for (const ObjectFacts::Symbol &symbol : facts_.symbols_) {
      Item *const same = find(symbol, known);
      if (same != nullptr) {
        if (same->kind == kFunction) same->kind = kExported;
      } else if (const auto name = keep(facts_.names_.data() + symbol.name)) {
        add(symbol.address, symbol.size, *name, no_source_, symbol.is_function ? kExported : kOther);
      }
    }
    sort();
  }

  [[nodiscard]] bool has_memory() const { return has_memory_; }

 private:
  bool fail() {
    functions_.texts_.clear();
    functions_.items_.clear();
    no_source_ = 0;
    return false;
  }

  void add(const Elf64_Sym &symbol, std::uint32_t source) {
    const unsigned type = symbol_type(symbol);
    if (!is_defined(symbol) || symbol.st_shndx == SHN_ABS ||
        (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
      return;
    add(facts_.base_ + symbol.st_value, symbol.st_size, symbol.st_name, source, type == STT_FUNC ? kFunction : kOther);
  }

  void add(std::uintptr_t address, std::uint64_t size, std::uint32_t name, std::uint32_t source, Kind kind) {
    const ObjectFacts::Segment *const code = std::find_if(
        facts_.code_.begin(), facts_.code_.end(),
        [address](const ObjectFacts::Segment &one) { return address >= one.begin && address - one.begin < one.size; });
    if (code == facts_.code_.end() || address - facts_.low_ > UINT32_MAX || name > kMaximumTexts) return;
    char *const text = functions_.texts_.data() + name;
    if (*text == '\0') return;
    if (char *const version = std::strchr(text + 1, '@')) *version = '\0';  // "name@@VERSION", as linkers write it
    const std::uint64_t room = std::min<std::uint64_t>(code->size - (address - code->begin), UINT32_MAX);
    if (size > room) size = 0;  // it lies: then it says nothing
    const Suffix suffix = kind == kFunction ? suffix_of(text) : Suffix::none;
    if (suffix == Suffix::cold) kind = kCold;
    if (suffix == Suffix::local_alias) kind = kOther;
    has_memory_ = has_memory_ && functions_.items_.push_back({static_cast<std::uint32_t>(address - facts_.low_),
                                                              static_cast<std::uint32_t>(size), name & kMaximumTexts,
                                                              kind, source, stem_hash(text)});
  }

  Item *find(const ObjectFacts::Symbol &symbol, std::size_t known) {
    Item *const end = functions_.items_.begin() + known;
    const char *const name = facts_.names_.data() + symbol.name;
    for (Item *one = std::lower_bound(functions_.items_.begin(), end, symbol.address - facts_.low_,
                                      [](const Item &item, std::uintptr_t offset) { return item.offset < offset; });
         one != end && one->offset == symbol.address - facts_.low_; ++one)
      if (std::strcmp(text(*one), name) == 0) return one;
    return nullptr;
  }

  std::optional<std::uint32_t> keep(const char *name) {
    PageVector<char> &texts = functions_.texts_;
    const std::size_t size = std::strlen(name) + 1, at = texts.size();
    if (at + size > kMaximumTexts) return std::nullopt;
    has_memory_ = has_memory_ && texts.reserve(at + size);
    if (!has_memory_) return std::nullopt;
    std::memcpy(texts.data() + at, name, size);
    texts.set_size(at + size);
    return static_cast<std::uint32_t>(at);
  }

  /// By address; at one address exported names first, each name once.
  void sort() {
    PageVector<Item> &items = functions_.items_;
    const auto rank = [](const Item &item) { return item.kind == kExported ? 0 : item.kind == kFunction ? 1 : 2; };
    std::sort(items.begin(), items.end(), [&](const Item &a, const Item &b) {
      if (a.offset != b.offset) return a.offset < b.offset;
      if (rank(a) != rank(b)) return rank(a) < rank(b);
      return std::strcmp(text(a), text(b)) < 0;
    });
    const Item *const end = std::unique(items.begin(), items.end(), [&](const Item &a, const Item &b) {
      return a.offset == b.offset && a.kind == b.kind && std::strcmp(text(a), text(b)) == 0;
    });
    items.set_size(static_cast<std::size_t>(end - items.begin()));
  }

  [[nodiscard]] const char *text(const Item &item) const { return functions_.texts_.data() + item.name; }

  const ObjectFacts &facts_;
  ObjectFunctions &functions_;
  std::uint32_t no_source_ = 0;
  bool has_memory_ = true;
};

Result<ObjectFunctions> ObjectFunctions::read(const ObjectFacts &facts, const char *debug_root) {
  ObjectFunctions functions;
  Builder builder(facts, functions);
  SymbolFile own;
  std::string why;
  const std::span<const std::uint8_t> build_id(facts.build_id_, facts.build_id_size_);
  const bool has_own =
      open_own_file({facts.path_, facts.is_loaded_, facts.is_executable_, facts.low_, build_id}, own, why);
  if (has_own && own.has_symbols() && builder.add_file(own, why)) {
    functions.is_complete_ = true;
    functions.origin_ = std::string("the symbol table of ") + facts.path_;
  } else {
    if (has_own && why.empty()) why = "has no other";
    why = std::string(facts.path_) + ' ' + why;
    std::string tried;
    auto debug = find_debug_file({build_id, has_own ? &own : nullptr, debug_root}, tried);
    if (debug && !builder.add_file(*debug, tried)) {
      tried = debug->path() + ' ' + tried;
      debug.reset();
    }
    functions.is_complete_ = debug.has_value();
    functions.origin_ = debug ? "the debug file " + debug->path()
                              : "the dynamic symbol table only, without static functions (" + why + "; " + tried + ")";
  }
  builder.add_exported();
  if (builder.has_memory()) return functions;
  Error error = make_error(Code::out_of_memory, "no memory for the names of the functions of %s", facts.path_);
  error.object = facts.path_;
  return error;
}

// ---- asking

FunctionName ObjectFunctions::name_of(const Item &item) const {
  return {texts_.data() + item.name, texts_.data() + item.source, low_ + item.offset, item.size,
          item.kind == kExported};
}

template <class Take>
std::vector<FunctionName> ObjectFunctions::with_stem(std::string_view text, Take take) const {
  std::vector<FunctionName> found, static_ones;
  const AskedFunction asked(text);
  const std::string plain = without_static_marks(asked.name);
  const std::uint32_t hash = stem_hash(asked.name);
  for (const Item &item : items_) {
    if (item.hash != hash || !is_function(item)) continue;
    const FunctionName name = name_of(item);
    if (!asked.is_source(name.source)) continue;
    if (take(suffix_of(name.name, asked.name)))
      found.push_back(name);
    else if (plain == asked.name && take(suffix_of(without_static_marks(name.name), plain)))
      static_ones.push_back(name);
  }
  return found.empty() ? static_ones : found;
}

std::vector<FunctionName> ObjectFunctions::named(std::string_view name) const {
  return with_stem(name, [](Suffix suffix) { return suffix == Suffix::none || suffix == Suffix::renamed; });
}

std::vector<FunctionName> ObjectFunctions::clones_of(std::string_view name) const {
  return with_stem(name, [](Suffix suffix) { return suffix == Suffix::clone; });
}

const ObjectFunctions::Item *ObjectFunctions::first_at(std::uintptr_t address) const {
  return std::lower_bound(items_.begin(), items_.end(), address,
                          [this](const Item &item, std::uintptr_t value) { return low_ + item.offset < value; });
}

std::vector<FunctionName> ObjectFunctions::at(std::uintptr_t address) const {
  std::vector<FunctionName> found;
  for (const Item *item = first_at(address); item != items_.end() && low_ + item->offset == address; ++item)
    if (is_function(*item)) found.push_back(name_of(*item));
  return found;
}

std::optional<FunctionName> ObjectFunctions::holding(std::uintptr_t address) const {
  const Item *item = first_at(address + 1);
  for (int steps = 0; steps < kNeighbours && item != items_.begin(); ++steps) {
    --item;
    const FunctionName name = name_of(*item);
    if (item->kind != kOther && (name.address == address || address - name.address < name.size)) {
      while (item != items_.begin() && item[-1].offset == item->offset) --item;
      return name_of(*item);
    }
  }
  return std::nullopt;
}

std::size_t ObjectFunctions::bytes_used() const { return items_.capacity() * sizeof(Item) + texts_.capacity(); }

// ---- describing

Result<FunctionDescription> ObjectFunctions::describe(std::uintptr_t address, ObjectCode &code) const {
  FunctionDescription description;
  std::size_t size = 0;
  bool begins = false;
  for (const FunctionName &name : at(address)) {
    begins = true;
    size = std::max(size, name.size);
  }
  description.has_frame = code.frame_at(address, description.frame);
  const auto around = holding(address);
  if (description.has_frame && description.frame.begin == address && (begins || !around)) {
    begins = true;
    if (size == 0) size = description.frame.end - address;
  }
  const arch::Bytes *const text = code.text_at(address, size);
  if (!begins || text == nullptr) {
    Error error =
        around ? make_error(Code::unknown_symbol, "no function begins at %#" PRIxPTR ": it lies in %s, at +%#" PRIxPTR,
                            address, around->name, address - around->address)
               : make_error(Code::unknown_symbol, "no function is known to begin at %#" PRIxPTR, address);
    error.address = address;
    return error;
  }
  arch::Function &function = description.function;
  function.body = {address, text->at(address), size};
  function.text = *text;
  function.data = code.data();
  function.jumps = code.jumps(*text);
  function.has_landing_pads = description.has_frame && description.frame.has_landing_pads;
  if (function.jumps == nullptr)
    return make_error(Code::out_of_memory, "no memory for the jumps in the code at %#" PRIxPTR, address);
  find_padding(code, function);
  add_cold_parts(address, code, description.parts);
  function.parts = description.parts;
  return description;
}

/// The bytes around the body up to the next symbol or the next described function. A function that nothing describes may lie
/// there too: so it is looked at whether they are padding.
void ObjectFunctions::find_padding(const ObjectCode &code, arch::Function &function) const {
  const std::uintptr_t begin = function.body.address, end = begin + function.body.size;
  std::uintptr_t low = function.text.address, high = function.text.address + function.text.size;
  const Item *item = first_at(begin);
  for (int steps = 0; steps < kNeighbours && item != items_.begin(); ++steps) {
    --item;
    low = std::max(low, std::min(begin, low_ + item->offset + item->size));
  }
  const Item *const next = first_at(end);
  if (next != items_.end()) high = std::min(high, low_ + next->offset);
  const CallFrames &frames = code.frames();
  CallFrame frame;
  const std::size_t own = frames.first_behind(begin - 1), behind = frames.first_behind(end - 1);
  if (own > 0 && frames.at(own - 1, frame)) low = std::max(low, std::min(begin, frame.end));
  if (frames.at(behind, frame)) high = std::min(high, std::max(end, frame.begin));
  function.before = begin - low;
  function.after = high > end ? high - end : 0;
}

/// NAME.cold for each name of the function. Where several static functions have the name and the source is not known, all of them:
/// a part too many makes a plan more careful.
void ObjectFunctions::add_cold_parts(std::uintptr_t address, const ObjectCode &code,
                                     std::vector<arch::Bytes> &parts) const {
  for (const FunctionName &name : at(address)) {
    const std::uint32_t hash = stem_hash(name.name);
    for (const Item &item : items_) {
      if (item.kind != kCold || item.hash != hash || item.size == 0) continue;
      const FunctionName part = name_of(item);
      const std::string_view text = part.name;
      const bool is_ours = text.substr(0, text.find(".cold")) == name.name;
      const bool is_elsewhere =
          *part.source != '\0' && *name.source != '\0' && std::strcmp(part.source, name.source) != 0;
      const arch::Bytes *const segment = code.text_at(part.address, part.size);
      const bool is_new =
          std::none_of(parts.begin(), parts.end(), [&](const arch::Bytes &one) { return one.address == part.address; });
      if (is_ours && !is_elsewhere && segment != nullptr && is_new)
        parts.push_back({part.address, segment->at(part.address), part.size});
    }
  }
}

}  // namespace shunt::core

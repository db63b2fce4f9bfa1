// postings.hpp: the slots of a name in all objects, for names that were asked for lately. The import indexes answer for one
// object each, and asking 300 of them for one name is 300 cache misses; a patch that is taken out and put in again asks for
// the same names, and finds them here in one piece. Thrown away when an object comes or goes, and when it grows too large:
// it is derived from the indexes and can be derived again.
#pragma once

#include <cstdint>
#include <span>

#include "base/page_vector.hpp"
#include "objects/import_index.hpp"

namespace shunt::core {

/// One relocation of a name.
struct Posting {
  std::uint32_t where;  // plain: the slot, from the object's lowest address; otherwise the relocation
  std::uint32_t bits;

  static constexpr std::uint32_t kIsPlain = 1U << 31;
  static constexpr unsigned kKindShift = 29;

  static Posting of(std::uint32_t rank, bool is_plain, std::uint32_t where, arch::RelocKind kind) {
    return {where, (is_plain ? kIsPlain : 0) | static_cast<std::uint32_t>(kind) << kKindShift | rank};
  }
  [[nodiscard]] bool is_plain() const { return (bits & kIsPlain) != 0; }
  [[nodiscard]] arch::RelocKind kind() const { return static_cast<arch::RelocKind>(bits >> kKindShift & 3); }
  /// Which object, in the order of addresses.
  [[nodiscard]] std::uint32_t rank() const { return bits & ((1U << kKindShift) - 1); }
};

class Postings {
 public:
  /// Memory is at most this for each object.
  static constexpr std::size_t kBytesPerObject = 512;

  void start(std::uint64_t generation, std::size_t objects) {
    if (generation == generation_) return;
    generation_ = generation;
    limit_ = objects * kBytesPerObject / sizeof(Posting);
    clear();
  }
  /// False when nothing is known about the name; an empty list when it is known to have no slot.
  bool find(std::uint32_t name, std::span<const Posting> &list) const {
    if (name >= lists_.size() || lists_[name].generation != generation_) return false;
    list = {postings_.data() + lists_[name].first, lists_[name].count};
    return true;
  }
  /// Room for the list of a name, to be filled in; NULL when there is none. Lists that were found before may be gone then.
  Posting *add(std::uint32_t name, std::uint32_t count) {
    if (count > limit_) return nullptr;
    if (postings_.size() + count > limit_) clear();
    if (!postings_.reserve(postings_.size() + count)) return nullptr;
    while (lists_.size() <= name)
      if (!lists_.push_back({0, 0, 0})) return nullptr;
    lists_[name] = {generation_, static_cast<std::uint32_t>(postings_.size()), count};
    postings_.set_size(postings_.size() + count);
    return postings_.data() + lists_[name].first;
  }
  /// Room for the lists of many names: when there is not, all that is known is forgotten. False when it is too much even then.
  bool make_room(std::size_t count) {
    if (postings_.size() + count > limit_) clear();
    return count <= limit_ && postings_.reserve(postings_.size() + count);
  }
  [[nodiscard]] std::size_t bytes_used() const {
    return postings_.size() * sizeof(Posting) + lists_.size() * sizeof(List);
  }

 private:
  struct List {
    std::uint64_t generation;
    std::uint32_t first, count;
  };
  void clear() {
    postings_.clear();
    lists_.clear();
  }
  PageVector<Posting> postings_;
  PageVector<List> lists_;  // by the number of the name
  std::uint64_t generation_ = 0;
  std::size_t limit_ = 0;
};

}  // namespace shunt::core

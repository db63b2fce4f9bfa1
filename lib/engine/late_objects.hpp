// late_objects.hpp: brings the changes that stand to objects that were loaded after them.
//
// All symbols of all changes are looked for in one pass over a new object. A slot of one of them is taken by each layer over its
// symbol that chooses the object, as if it had been there when the layer was applied, oldest first; what it holds in the end is
// written once. From then on the slot is one of the change's like any other.
//
// What cannot be written (a sealed page) is left as it is: an object that is loaded cannot be refused. It is told. Where there was no
// memory, it is tried again the next time.
#pragma once

#include <span>

#include "engine/layers.hpp"
#include "engine/loaded_patch.hpp"
#include "engine/resolver.hpp"

namespace shunt::core {

class LateObjects {
 public:
  LateObjects(ObjectTable &objects, Layers &layers, const std::vector<LoadedPatch> &patches)
      : objects_(objects), layers_(layers), patches_(patches) {}

  /// Only inside ObjectTable::while_locked(). Objects whose id is at least `from` are looked at; for each change, those
  /// that came after it. From which id on to look the next time: that of the next object to come, or of one that there was no
  /// memory for. Allocates nothing by malloc.
  ObjectId adopt(ObjectId from);
  /// Takes the slots of objects that are gone out of all changes: nothing is written into their memory, and another object that
  /// lies there is looked at afresh. Only inside while_locked(), before adopt().
  void drop_gone();

  /// Since the last time that this was asked: slots that were written, and a problem that kept some from being written.
  [[nodiscard]] bool has_news() const { return news_.slots > 0 || news_.problem; }
  struct News {
    std::size_t slots = 0;
    Problem problem;
  };
  News news();

 private:
  struct Hit {  // a layer that takes a slot
    Change *change;
    std::uintptr_t place, before, after;
    Slot slot;
    std::int16_t addend;
  };
  void adopt_object(Object &object, Problem &problem);
  void take(Object &object, Image::RelocationRef reference, const std::vector<Layer> &layers, Problem &problem);
  template <class Visit>
  void by_change(Visit visit);
  [[nodiscard]] std::uintptr_t function_at(Object &object, const Relocation &relocation, std::uintptr_t value,
                                           const std::vector<Layer> &layers, bool &is_lazy);
  [[nodiscard]] bool takes(const Layer &layer, const Object &object, const Relocation &relocation) const;
  static bool have_room(std::span<const Hit> hits);
  bool write(const Object &object, Problem &problem);
  static void record(const Object &object, std::span<const Hit> hits);
  void lead_originals(std::span<const Hit> hits, Problem &problem);
  static void drop(Change &change, const Span &span);
  [[nodiscard]] bool is_another_loading(const Object &object) const;

  ObjectTable &objects_;
  Layers &layers_;
  const std::vector<LoadedPatch> &patches_;
  PageVector<Hit> hits_;  // of the object at work
  News news_;
};

}  // namespace shunt::core

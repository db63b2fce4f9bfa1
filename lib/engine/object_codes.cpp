#include "engine/object_codes.hpp"

#include <sys/auxv.h>

#include <algorithm>

namespace shunt::core {
namespace {

/// The address of an exported function, in whichever object comes first; 0 when there is none.
std::uintptr_t exported(ObjectTable &objects, const char *name) {
  const SymbolName symbol(name);
  for (const Object &object : objects.in_load_order()) {
    if (!object.is_readable || object.is_vdso) continue;
    if (const Elf64_Sym *found = find_definition_at(object.image, symbol, 0))
      return object.image.symbol_address(*found);
  }
  return 0;
}

const char *why_untouchable(ObjectTable &objects, const Object &object, std::span<const LoadedPatch> patches) {
  if (object.is_own) return "is shunt's own";
  if (object.is_vdso) return "is the kernel's (vDSO)";
  if (is_patch(patches, object)) return "belongs to a patch";
  if (!object.is_readable) return "lies in an object that cannot be read";
  if (object.contains(getauxval(AT_BASE))) return "belongs to the dynamic linker, which shunt itself runs";
  if (object.contains(exported(objects, "_Unwind_RaiseException")) && !object.is_executable)
    return "belongs to the unwinder, which shunt itself runs";
  return nullptr;
}

}  // namespace

KnownCode *ObjectCodes::at(std::uintptr_t address) const {
  const auto found =
      std::find_if(all_.begin(), all_.end(), [&](const auto &one) { return one->code.text_at(address) != nullptr; });
  return found != all_.end() ? found->get() : nullptr;
}

KnownCode *ObjectCodes::around(std::uintptr_t address) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto &one) {
    return address >= one->code.low() && address < one->code.high();
  });
  return found != all_.end() ? found->get() : nullptr;
}

KnownCode *ObjectCodes::with_id(ObjectId id) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto &one) { return one->id == id; });
  return found != all_.end() ? found->get() : nullptr;
}

void ObjectCodes::describe(ObjectTable &objects, const Object &object, std::span<const LoadedPatch> patches,
                           KnownCode &fresh) {
  fresh.id = object.id;
  fresh.path = object.path;
  fresh.linked = object.linked;
  fresh.base = object.image.base();
  fresh.is_startup = static_cast<std::size_t>(&object - objects.in_load_order().data()) < objects.startup_count();
  fresh.untouchable = why_untouchable(objects, object, patches);
  fresh.code = ObjectCode(object.image);
}

void ObjectCodes::mark_gone(ObjectTable &objects) {
  for (const auto &one : all_) {
    const Object *object = objects.with_id(one->id);
    one->is_gone = object == nullptr || object->image.base() != one->base;
  }
}

KnownCode *ObjectCodes::add(std::unique_ptr<KnownCode> fresh) {
  all_.push_back(std::move(fresh));
  return all_.back().get();
}

// ---- reading

KnownCode *CodeReader::code_at(std::uintptr_t function, Problem &problem) {
  if (last_ != nullptr && last_->code.text_at(function) != nullptr) return last_;
  if (KnownCode *const known = codes_.at(function)) return last_ = known;
  auto fresh = std::make_unique<KnownCode>();
  objects_.while_locked(problem, [&](Problem &) {
    if (const Object *object = objects_.at(function)) ObjectCodes::describe(objects_, *object, patches_, *fresh);
  });
  if (fresh->id == 0 || fresh->code.text_at(function) == nullptr) return nullptr;
  return last_ = codes_.add(std::move(fresh));
}

bool CodeReader::know_all(Problem &problem) {
  if (knows_all_) return true;
  std::size_t count = 0;
  objects_.while_locked(problem, [&](Problem &) { count = objects_.in_load_order().size(); });
  std::vector<std::unique_ptr<KnownCode>> fresh(count);
  for (auto &one : fresh) one = std::make_unique<KnownCode>();
  std::size_t used = 0;
  objects_.while_locked(problem, [&](Problem &) {
    for (const Object &object : objects_.in_load_order())
      if (object.is_readable && !object.is_vdso && used < fresh.size() && codes_.with_id(object.id) == nullptr)
        ObjectCodes::describe(objects_, object, patches_, *fresh[used++]);
  });
  for (std::size_t k = 0; k < used; ++k) codes_.add(std::move(fresh[k]));
  knows_all_ = !problem;
  return knows_all_;
}

bool CodeReader::can_read(const KnownCode &code) {
  return code.is_startup || outside_.keep(code.id, code.linked, code.base) == Outside::State::held;
}

ObjectFunctions *CodeReader::functions_of(KnownCode &code, Problem &problem) {
  if (code.functions) return &*code.functions;
  ObjectFacts facts;
  bool is_there = false;
  objects_.while_locked(problem, [&](Problem &inner) {
    const Object *object = objects_.with_id(code.id);
    is_there = object != nullptr && object->image.base() == code.base && ObjectFacts::copy(*object, facts, inner);
  });
  if (!is_there || problem) return nullptr;
  auto read = ObjectFunctions::read(facts);
  if (!read) {
    problem.set(read.error().code, "%s", read.error().message.c_str());
    return nullptr;
  }
  code.functions.emplace(std::move(*read));
  return &*code.functions;
}

bool CodeReader::describe(std::uintptr_t function, ObjectId object, FunctionDescription &description,
                          Problem &problem) {
  KnownCode *const code = code_at(function, problem);
  ObjectFunctions *const functions =
      code != nullptr && code->id == object && can_read(*code) ? functions_of(*code, problem) : nullptr;
  if (outside_.is_wanting() || problem) return false;
  if (functions == nullptr) {
    problem.address = function;
    problem.set(Code::plan_stale, "the code at %#lx has been unloaded since the plan was made: plan again", function);
    return false;
  }
  if (outside_.decoder() == Outside::State::wanted) return false;
  auto made = functions->describe(function, code->code);
  if (!made) {
    problem.address = function;
    problem.set(made.error().code, "%s", made.error().message.c_str());
    return false;
  }
  description = std::move(*made);
  return true;
}

Unwinder find_unwinder(ObjectTable &objects) {
  return {reinterpret_cast<Unwinder::Tell *>(exported(objects, "__register_frame")),
          reinterpret_cast<Unwinder::Tell *>(exported(objects, "__deregister_frame"))};
}

}  // namespace shunt::core

// file_image.hpp: an ELF file laid out in memory as the dynamic linker would lay it out, but only to be looked at: nothing is
// relocated and no page is executable. So one parser (image.hpp) serves for loaded objects and for files.
#pragma once

#include <memory>
#include <vector>

#include "base/page_vector.hpp"
#include "base/result.hpp"
#include "elf/image.hpp"

namespace shunt::core {

class FileImage {
 public:
  enum class Accept : std::uint8_t {
    libraries,  // and programs that are position independent: they look the same
    programs,   // those that are not as well
  };
  /// Reads the file behind `fd` (from its start; the position is not used). `name` is for messages.
  /// Errors: patch_unreadable, patch_malformed, patch_architecture.
  static Result<FileImage> read(int fd, const char *name, Accept accept = Accept::libraries);

  [[nodiscard]] const Image &image() const { return image_; }

 private:
  std::unique_ptr<std::vector<Elf64_Phdr>> headers_;  // at a fixed place: the image points to it
  PageVector<std::uint8_t> memory_;
  Image image_;
};

}  // namespace shunt::core

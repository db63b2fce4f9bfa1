// A file of any bytes, read as a patch library is: refused, or every question about it is answered from inside it.
#include <sys/mman.h>
#include <unistd.h>

#include "ask_everything.hpp"
#include "elf/file_image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes, std::size_t size) {
  static const int file = memfd_create("fuzz", MFD_CLOEXEC);
  if (ftruncate(file, 0) != 0 || pwrite(file, bytes, size, 0) != static_cast<ssize_t>(size)) return -1;
  const auto read = shunt::core::FileImage::read(file, "fuzz.so");
  if (!read) return 0;
  unit::ask_everything(read->image());
  unit::ask_exact_copy(read->image());
  return 0;
}

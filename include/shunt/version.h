/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */
/* version.h: the version of these headers. The library's own is shunt_version(). */
#ifndef SHUNT_VERSION_H
#define SHUNT_VERSION_H

#define SHUNT_VERSION_MAJOR 0
#define SHUNT_VERSION_MINOR 1
#define SHUNT_VERSION_PATCH 0
#define SHUNT_VERSION_STRING "0.1.0"

#endif

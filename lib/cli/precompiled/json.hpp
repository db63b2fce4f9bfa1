// json.hpp: what the compiler reads once for all files of the command. No file relies on it: each includes what it uses. (Without
// `#pragma once`, which g++ does not take in a file that is compiled by itself.)
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

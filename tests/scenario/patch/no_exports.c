#include "life.h"

// What the loader asks of a library before it uses it.

#include "common.h"

OMEGA_EXPORT int omega_abi_version() { return OMEGA_ABI_VERSION; }

OMEGA_EXPORT const char* omega_source_hash() { return OMEGA_SOURCE_HASH; }

// Floats in the vector registers that the kernels use here, at most `limit` (16, 8 or 4).
OMEGA_EXPORT int omega_vector_width(int limit) {
    omega::vector_width_limit = limit;
    return omega::vector_width();
}

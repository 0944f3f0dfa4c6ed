// Large outputs arrive from torch untouched: each of their pages is a fault at the first write. Asking for
// huge pages makes 512 faults into one (2 MB instead of 4 KB; where the system gives none, nothing changes).
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace omega {

inline void prefer_huge_pages(void* start, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kHuge = (uintptr_t)2 << 20;
    const uintptr_t first = ((uintptr_t)start + kHuge - 1) & ~(kHuge - 1);
    const uintptr_t past = ((uintptr_t)start + (uintptr_t)bytes) & ~(kHuge - 1);
    if (bytes > 0 && past > first) madvise((void*)first, past - first, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

}  // namespace omega

// Threads for the CPU loops: one pool for the process, shared by every call.
#pragma once
#include <cstdint>
#include <functional>

namespace lps {

int num_threads();
void set_num_threads(int count);

// Calls body(begin, end) over disjoint pieces of [0, count), at least `grain` long where possible, on up to
// num_threads() threads, the caller's among them. Returns when all are done. The pieces depend on the number of
// threads, so a body must not: what it writes for an index is a function of the index alone. A body must not throw
// and must not call parallel_for (such a call runs serially).
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace lps

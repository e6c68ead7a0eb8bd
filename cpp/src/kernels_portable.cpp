// The kernels for processors without a version of their own (aarch64 and old x86 among them): 16-byte
// vectors.
#define MIXTURA_ISA portable
#define MIXTURA_VECTOR_BYTES 16
#include "mixtura/pass.hpp"

namespace mixtura {

extern const Kernels kernels_portable;
constexpr Kernels kernels_portable = portable::kernels("portable");

}  // namespace mixtura

// The kernels for x86-64-v2: 16-byte vectors.
#define MIXTURA_ISA v2
#define MIXTURA_VECTOR_BYTES 16
#include "mixtura/pass.hpp"

namespace mixtura {

extern const Kernels kernels_v2;
constexpr Kernels kernels_v2 = v2::kernels("x86-64-v2");

}  // namespace mixtura

// The kernels for x86-64-v3: 32-byte vectors.
#define MIXTURA_ISA v3
#define MIXTURA_VECTOR_BYTES 32
#include "mixtura/pass.hpp"

namespace mixtura {

extern const Kernels kernels_v3;
constexpr Kernels kernels_v3 = v3::kernels("x86-64-v3");

}  // namespace mixtura

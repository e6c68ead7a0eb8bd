// The kernels for x86-64-v4: 64-byte vectors.
#define MIXTURA_ISA v4
#define MIXTURA_VECTOR_BYTES 64
#include "mixtura/pass.hpp"

namespace mixtura {

extern const Kernels kernels_v4;
constexpr Kernels kernels_v4 = v4::kernels("x86-64-v4");

}  // namespace mixtura

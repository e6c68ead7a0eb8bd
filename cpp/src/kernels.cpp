// The kernels of one instruction set for one type of number; the build compiles this file once for each, with
// MIXTURA_ISA (the namespace), MIXTURA_VECTOR_BYTES and MIXTURA_REAL.
#include "mixtura/pass.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

extern const Kernels table;
constexpr Kernels table = kernels();

}  // namespace MIXTURA_ISA
}  // namespace mixtura

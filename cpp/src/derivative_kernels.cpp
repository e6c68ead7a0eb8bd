// The derivatives' kernels of one instruction set; the build compiles this file once for each, with
// MIXTURA_ISA (the namespace), MIXTURA_VECTOR_BYTES and MIXTURA_REAL, which is double.
#include "mixtura/averages.hpp"
#include "mixtura/parametric.hpp"
#include "mixtura/small_em.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

extern const DerivativeKernels derivatives;
constexpr DerivativeKernels derivatives = derivative_kernels();
extern const AverageKernels averages;
constexpr AverageKernels averages = average_kernels();
extern const ManyKernels many;
constexpr ManyKernels many = many_kernels();

}  // namespace MIXTURA_ISA
}  // namespace mixtura

// Which device this translation unit drives: CUDA's where nvcc compiles it, the emulated one elsewhere.
#pragma once

#if defined(__CUDACC__)
  #include "mixtura/cuda/cuda_device.hpp"
#else
  #include "mixtura/cuda/emulated_device.hpp"
#endif

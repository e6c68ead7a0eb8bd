// Products of matrices by warpgroups, four warps that share one instruction, of Hopper devices (compute
// capability 9.0): bfloat16 operands in shared memory, or the first one in registers; sums in float32.
// Operands arrive by bulk copies that one warp starts, in a ring of stages; consumers wait for a stage,
// multiply, and give its slot back.
//
// Numbers are sums of `parts` bfloat16s, largest first: two hold 16 digits, three all 24 of a float32. A
// product of two such numbers leaves out what is smaller than its last digit: 3 products of two parts, 6 of
// three.
//
// Kernels, tiles and passes that are made of them are called wide.
//
// An operand lies as (terms / 8, places, 8): eight neighbours along the axis that is summed over are side by
// side, and eight places of them are the 128 bytes that the hardware reads at a time, from all banks.
#pragma once

#include "mixtura/cuda/tensor.hpp"

// Code for these devices' own instructions exists in their pass of the compiler alone.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  #define MIXTURA_WARPGROUPS 1
#endif

namespace mixtura::cuda {

constexpr int warpgroup_threads = 128;
constexpr int warpgroup_rows = 64;  // of a product

// Consumers of a block, and its threads: one warpgroup more, of which one thread starts the copies, and whose
// registers the consumers get.
constexpr int consumers = 2;
constexpr int ring_threads = (consumers + 1) * warpgroup_threads;
constexpr int most_slots = 12;
constexpr int most_row_slots = 2;
constexpr int barrier_bytes = 256;  // 2 barriers a slot

// Which part of the first number each product multiplies with which of the second, the smallest products
// first; part 0 is the largest. Of two and two parts: 0 1, 1 0, 0 0. Of three and three, those whose places
// add up to at most 2. Of two and one: 1 0, 0 0. A number holds them all, two bits a product.
template <int first_parts, int second_parts = first_parts>
struct Products {
  static_assert(first_parts == 2 || (first_parts == 3 && second_parts == 3),
                "such numbers are not multiplied");
  static constexpr int count = first_parts == 3 ? 6 : second_parts == 2 ? 3 : 2;
  MIXTURA_BOTH static constexpr int first(int product) {
    return (first_parts == 3 ? 0x124 : second_parts == 2 ? 0x04 : 0x01) >> 2 * product & 3;
  }
  MIXTURA_BOTH static constexpr int second(int product) {
    return (first_parts == 3 ? 0x046 : second_parts == 2 ? 0x01 : 0x00) >> 2 * product & 3;
  }
};

// A number as the sum of `parts` bfloat16s.
template <int parts>
struct Parts {
  uint16_t of[parts];
};
template <int parts>
MIXTURA_BOTH Parts<parts> parts_of(float x) {
  Parts<parts> found;
  for (int p = 0; p < parts; ++p) {
    const uint32_t bits = round_to_half(bits_of(x));
    found.of[p] = static_cast<uint16_t>(bits >> 16);
    x -= float_of(bits);
  }
  return found;
}

// Eight neighbours along the axis that is summed over.
struct alignas(16) Chunk {
  union {
    uint16_t of[8];
    uint32_t pairs[4];
  };
};

#if !defined(__CUDACC__)

// Emulated: what one row and one place add to their sum over 16 terms. Strides are in chunks.
template <int first_parts, int second_parts>
float product_of(const Chunk* a, int64_t a_part, int64_t a_chunk, const Chunk* b, int64_t b_part,
                 int64_t b_chunk) {
  auto number = [](uint16_t half) { return float_of(static_cast<uint32_t>(half) << 16); };
  float sum = 0;
  using Pairs = Products<first_parts, second_parts>;
  for (int product = 0; product < Pairs::count; ++product)
    for (int chunk = 0; chunk < terms / 8; ++chunk)
      for (int j = 0; j < 8; ++j)
        sum = fused(number(a[Pairs::first(product) * a_part + chunk * a_chunk].of[j]),
                    number(b[Pairs::second(product) * b_part + chunk * b_chunk].of[j]), sum);
  return sum;
}

#endif

#if defined(MIXTURA_WARPGROUPS)

__device__ __forceinline__ uint32_t shared_address(const void* memory) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(memory));
}

// A barrier that counts arrivals and the bytes of copies; its phases are told apart by their parity.
struct Barrier {
  uint32_t address;

  __device__ __forceinline__ explicit Barrier(const void* memory) : address(shared_address(memory)) {}
  __device__ __forceinline__ void init(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
  }
  __device__ __forceinline__ void expect(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void wait(uint32_t parity) const {
    asm volatile(
        "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra over; "
        "bra again; over: }" ::"r"(address),
        "r"(parity)
        : "memory");
  }
};

// `bytes`, a multiple of 16, from global to shared memory, by hardware; both sides aligned to 16.
__device__ __forceinline__ void copy_in_bulk(void* to, const void* from, int bytes, const Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(barrier.address)
      : "memory");
}

// How an operand lies in shared memory: where, and the bytes from one chunk of terms to the next.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t chunk_bytes) {
  constexpr uint64_t eight_places = 128 >> 4;
  return static_cast<uint64_t>((address & 0x3ffffu) >> 4) | static_cast<uint64_t>(chunk_bytes >> 4) << 16 |
         eight_places << 32;
}

__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until no more than `pending` committed groups of products are under way.
template <int pending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// The nearest bfloat16s, x in the lower half.
__device__ __forceinline__ uint32_t pair_of(float x, float y) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(y), "f"(x));
  return word;
}
__device__ __forceinline__ float4 times(const float4& a, const float4& b) {
  return float4{a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

// Registers of a thread, from here on: 384 threads begin with 168 each.
__device__ __forceinline__ void begin_consuming() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
}
__device__ __forceinline__ void begin_producing() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
}

// Which warpgroup a thread belongs to, the same for all of a warp as far as the compiler can tell.
__device__ __forceinline__ int warpgroup_of_thread() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / warpgroup_threads, 0);
}

// Two consumers take turns at starting products. What a warp starts, it starts in order, and waits where the
// hardware has enough: consumers that start together end together, and the tensor cores idle while both
// prepare what comes next. In turns, one prepares while the other's products run.
struct Turns {
  int consumer;
  bool alone;  // there is no other consumer

  __device__ __forceinline__ Turns(int consumer_, bool alone_) : consumer(consumer_), alone(alone_) {
    if (!alone && consumer == 1) pass();
  }
  __device__ __forceinline__ void take() const {
    if (!alone)
      asm volatile("bar.sync %0, %1;" ::"r"(1 + consumer), "n"(consumers * warpgroup_threads) : "memory");
  }
  __device__ __forceinline__ void pass() const {
    if (!alone)
      asm volatile("bar.arrive %0, %1;" ::"r"(2 - consumer), "n"(consumers * warpgroup_threads) : "memory");
  }
  // The second consumer's last pass finds someone who takes it.
  __device__ __forceinline__ void end() const {
    if (consumer == 0) take();
  }
};

// Keeps the compiler from moving reads and writes of sums across this place.
template <int n>
__device__ __forceinline__ void pin(float (&d)[n]) {
  MIXTURA_UNROLL
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int n>
__device__ __forceinline__ void pin(uint32_t (&words)[n]) {
  MIXTURA_UNROLL
  for (int i = 0; i < n; ++i) asm volatile("" : "+r"(words[i])::"memory");
}

  // The sums of an instruction as its operands: their numbers, and the registers that they are.
  #define MIXTURA_NUMBERS_32                                                                     \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
  #define MIXTURA_NUMBERS_64                                                             \
    MIXTURA_NUMBERS_32                                                                   \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
  #define MIXTURA_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
  #define MIXTURA_SUMS_16(d, i) \
    MIXTURA_SUMS_4(d, i), MIXTURA_SUMS_4(d, i + 4), MIXTURA_SUMS_4(d, i + 8), MIXTURA_SUMS_4(d, i + 12)
  #define MIXTURA_SUMS_32(d, i) MIXTURA_SUMS_16(d, i), MIXTURA_SUMS_16(d, i + 16)
  #define MIXTURA_SUMS_64(d, i) MIXTURA_SUMS_32(d, i), MIXTURA_SUMS_32(d, i + 32)

// d (+)= a b, 64 rows by 64 or 128 columns over 16 terms; d is replaced where not `add`. The rows' operand
// lies in shared memory, or in registers.
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{ .reg .pred more; setp.ne.b32 more, %66, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" MIXTURA_NUMBERS_64
      "}, %64, %65, more, 1, 1, 0, 0; } "
      : MIXTURA_SUMS_64(d, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{ .reg .pred more; setp.ne.b32 more, %69, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" MIXTURA_NUMBERS_64
      "}, {%64, %65, %66, %67}, %68, "
      "more, 1, 1, 0; } "
      : MIXTURA_SUMS_64(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply(float (&d)[32], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{ .reg .pred more; setp.ne.b32 more, %34, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" MIXTURA_NUMBERS_32
      "}, %32, %33, more, 1, 1, 0, 0; } "
      : MIXTURA_SUMS_32(d, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{ .reg .pred more; setp.ne.b32 more, %37, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" MIXTURA_NUMBERS_32
      "}, {%32, %33, %34, %35}, %36, "
      "more, 1, 1, 0; } "
      : MIXTURA_SUMS_32(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

  #undef MIXTURA_NUMBERS_32
  #undef MIXTURA_NUMBERS_64
  #undef MIXTURA_SUMS_4
  #undef MIXTURA_SUMS_16
  #undef MIXTURA_SUMS_32
  #undef MIXTURA_SUMS_64

#endif

}  // namespace mixtura::cuda

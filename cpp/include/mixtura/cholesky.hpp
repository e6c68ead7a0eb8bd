// K small factorisations at a time, on all threads, by whatever LAPACK the caller has.
#pragma once

#include <cstdint>

namespace mixtura {

// LAPACK's dpotrf and dtrtri, as Fortran has them.
using Potrf = void(char* uplo, int* n, double* a, int* lda, int* info);
using Trtri = void(char* uplo, char* diagonal, int* n, double* a, int* lda, int* info);

struct Lapack {
  Potrf* potrf;
  Trtri* trtri;
};

// out: for matrices (K, D, D), symmetric, upper triangles U with U U' = inverse of each: 2 D^3 / 3
// multiply-adds a matrix. LAPACK must not start threads of its own. False if one is not positive definite, or
// its U not finite.
bool inverse_cholesky(const Lapack& lapack, const double* matrices, double* out, int64_t count, int64_t dims,
                      int threads);

}  // namespace mixtura

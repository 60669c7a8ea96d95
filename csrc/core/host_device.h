// What lets one function serve the CPU loops and the CUDA kernels.
#pragma once

#ifdef __CUDACC__
#define LPS_HOST_DEVICE __host__ __device__ inline
#else
#define LPS_HOST_DEVICE inline
#endif

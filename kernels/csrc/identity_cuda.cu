// What the loader asks of the CUDA library before it trusts it.

#include "cuda_common.cuh"

OMEGA_EXPORT int omega_abi_version() { return OMEGA_ABI_VERSION; }

OMEGA_EXPORT const char* omega_source_hash() { return OMEGA_SOURCE_HASH; }

OMEGA_EXPORT const char* omega_cuda_error(int code) { return cudaGetErrorString((cudaError_t)code); }

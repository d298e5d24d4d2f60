"""What the GPU itself can do, measured by two small kernels: bytes a second from memory, and fused multiply-adds.

The rates of the engine are told as shares of these, taken in the same run, and not of a data sheet's.
"""

from __future__ import annotations

from collections.abc import Callable

SOURCE = r"""
extern "C" __global__ void copy(const float4* __restrict__ from, float4* __restrict__ to, long long count) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += step) to[i] = from[i];
}

extern "C" __global__ void multiply_add(float* out, int rounds, float a, float b) {
    float v[8];
    for (int n = 0; n < 8; ++n) v[n] = threadIdx.x + n;
    for (int r = 0; r < rounds; ++r) {
#pragma unroll
        for (int n = 0; n < 8; ++n) v[n] = fmaf(v[n], a, b);
    }
    float sum = 0.0f;
    for (int n = 0; n < 8; ++n) sum += v[n];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""
CHAINS = 8
"""Independent multiply-adds of a thread: enough to cover the latency of one."""
THREADS = 256
CTAS_PER_SM = 8
REPEATS = 10


def limits(gigabytes: float = 4.0, rounds: int = 100_000) -> dict[str, float]:
    """Bytes a second read and written by a copy far larger than any cache, and float32 operations a second.

    Args:
        gigabytes: size of what is copied [GB].
        rounds: multiply-adds of each chain of each thread.
    """
    import cupy

    module = cupy.RawModule(code=SOURCE)
    ctas = CTAS_PER_SM * cupy.cuda.Device().attributes["MultiProcessorCount"]
    count = int(gigabytes * 1e9) // 16
    source, target = cupy.ones(4 * count, cupy.float32), cupy.empty(4 * count, cupy.float32)
    copy, multiply_add = module.get_function("copy"), module.get_function("multiply_add")
    seconds = _shortest(lambda: copy((ctas,), (THREADS,), (source, target, cupy.int64(count))))
    out = cupy.empty(ctas * THREADS, cupy.float32)
    numbers = (out, cupy.int32(rounds), cupy.float32(0.999), cupy.float32(0.001))
    busy = _shortest(lambda: multiply_add((ctas,), (THREADS,), numbers))
    return {
        "bytes_per_second": 2 * source.nbytes / seconds,
        "flops_per_second": 2.0 * CHAINS * rounds * ctas * THREADS / busy,
    }


def _shortest(launch: Callable[[], None]) -> float:
    """Seconds of a launch, the shortest of some, by the device's own clock."""
    import cupy

    launch()
    times = []
    for _ in range(REPEATS):
        began, ended = cupy.cuda.Event(), cupy.cuda.Event()
        began.record()
        launch()
        ended.record()
        ended.synchronize()
        times.append(cupy.cuda.get_elapsed_time(began, ended) / 1000)
    return min(times)

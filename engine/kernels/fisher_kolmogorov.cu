// Fisher-Kolmogorov model on a GPU: one launch advances a whole batch of simulations through all their steps.
//
// Two numbers. An update is a tissue voxel computed in one stage. It moves 8 to 12 bytes of state through device memory
// (read c, on every second sweep also what is there already, write) and does 7 fused and 6 plain operations; a
// division comes once a step. SRI24 at 128^3 fills 86% of the voxels of its blocks, so 11.6 bytes a tissue voxel: at
// 4.8 TB/s (H200) at most 410 billion updates a second; 67 Tflop/s would allow over 3,000. The 12 bytes of faces are
// the same for the whole batch (6 MB) and stay in L2; neighbors along x and y come from L1, because blocks are
// advanced in flat order and what a slice needs again (three slices of c, two of the faces) is 60 KB. What is left is
// L1 itself: 13 or 14 loads and a store per voxel, 128 unaligned bytes a warp, so two cycles each, on 132 multiprocessors at
// 1.8 GHz are 230 billion updates a second. That is the limit to expect (from datasheets and counting, not measured).
//
// CTA: a CUDA thread block, so that `block` keeps the meaning it has in engine.domain: LANES voxels in a row. A CTA
// takes a simulation from a queue, advances it to its end, and takes the next; simulations never meet, so nothing
// waits for the whole grid. A thread advances one voxel of a block, so LANES threads read 32 bytes in a row.
//
// The twin of fisher_kolmogorov.py, bit for bit: same order of operations, fused where it is written and only there
// (--fmad=false), exact division.
// Lists grow in any order, but each voxel's value depends on the values before it only, so order cannot show.
//
// Defined by the compiler's command line (engine.backends.cuda): THREADS in a CTA, CTAS_PER_SM, LANES, CUTOFF,
// CHECK_EVERY; WITHOUT_EVOLVE where another kernel (moving_brain.cu) wants the functions only.

// The brain, as engine.domain.Domain has it.
struct Domain {
    const float* __restrict__ fx;
    const float* __restrict__ fy;
    const float* __restrict__ fz;
    const int* __restrict__ starts;
    const int* __restrict__ fill;
    const int* __restrict__ links;
    const int* __restrict__ link_offsets;
    int blocks, sx, sy;
};

// One CTA's own memory on the device. All of `other` and `awake` is 0 between simulations.
struct Scratch {
    float* other;         // (size,) the second copy of the density
    int* active;          // (blocks,) first voxels of the active blocks
    int* frontier;        // (2, blocks) active blocks whose neighbors may still sleep: of this step and of the next
    unsigned int* awake;  // (words,) a bit per block, set once the block is active
    int words;
};

struct Shared {
    int simulation;
    int active, voxels;  // blocks in `active`, tissue voxels in them
    int frontier[2];
    int large;           // voxels found to hold the wanted density
    int sums[2][THREADS];
};

// What one pair of stages, or one step by Euler, multiplies with: engine.time_steps.Schedule.
struct Pair {
    float a, b, decay, ahead;
};

enum Sweep { HALF_OF_PAIR, REST_OF_PAIR, REST_OF_STEP, STEP_BY_EULER };

__device__ inline float react_exactly(float c, float q) {
    return c / fmaf(1.0f - c, q, c);
}

// Sum over the six faces of face * (neighbor - v).
__device__ inline float flux_divergence(const Domain& d, const float* c, int i, float v) {
    float net = d.fx[i] * (c[i + d.sx] - v);
    net = fmaf(d.fx[i - d.sx], c[i - d.sx] - v, net);
    net = fmaf(d.fy[i], c[i + d.sy] - v, net);
    net = fmaf(d.fy[i - d.sy], c[i - d.sy] - v, net);
    net = fmaf(d.fz[i], c[i + 1] - v, net);
    return fmaf(d.fz[i - 1], c[i - 1] - v, net);
}

// All active blocks: out = base + k div(faces grad c), base being c or what `out` holds; at the end of a step also the
// reaction, and rounding is kept inside [0, 1].
template <Sweep SWEEP>
__device__ void advance(const Domain& d, const Scratch& own, int count, const float* c, float* out, float k, float q) {
    for (int a = threadIdx.x / LANES; a < count; a += THREADS / LANES) {
        const int i = own.active[a] + threadIdx.x % LANES;
        const float center = c[i];
        const float base = SWEEP == REST_OF_PAIR || SWEEP == REST_OF_STEP ? out[i] : center;
        float value = fmaf(k, flux_divergence(d, c, i, center), base);
        if (SWEEP == REST_OF_STEP) value = react_exactly(value, q);
        if (SWEEP == STEP_BY_EULER) value = fmaf(q, center * (1.0f - center), value);
        if (SWEEP == REST_OF_STEP || SWEEP == STEP_BY_EULER) {
            value = value < CUTOFF ? 0.0f : value;
            value = value > 1.0f ? 1.0f : value;
        }
        out[i] = value;
    }
}

// Make a block active and put it on the next frontier, once.
__device__ inline void wake(const Domain& d, const Scratch& own, Shared& shared, int b, int next) {
    const unsigned int bit = 1u << (b % 32);
    if (atomicOr(&own.awake[b / 32], bit) & bit) return;
    own.active[atomicAdd(&shared.active, 1)] = d.starts[b];
    own.frontier[next * d.blocks + atomicAdd(&shared.frontier[next], 1)] = b;
    atomicAdd(&shared.voxels, d.fill[b]);
}

__device__ inline bool holds_something(const float* c, int start) {
    bool filled = false;
    for (int i = start; i < start + LANES; ++i) filled |= c[i] != 0.0f;
    return filled;
}

// Wake the neighbors of every frontier block that holds something; the others stay on the frontier.
__device__ void activate_around(const Domain& d, const Scratch& own, Shared& shared, const float* c, int now) {
    const int known = shared.frontier[now], next = 1 - now;
    for (int f = threadIdx.x; f < known; f += THREADS) {
        const int b = own.frontier[now * d.blocks + f];
        if (holds_something(c, d.starts[b])) {
            for (int n = d.link_offsets[b]; n < d.link_offsets[b + 1]; ++n) wake(d, own, shared, d.links[n], next);
        } else {
            own.frontier[next * d.blocks + atomicAdd(&shared.frontier[next], 1)] = b;
        }
    }
}

// Sum of the values of the threads before this one.
__device__ int sum_before(Shared& shared, int value) {
    const int t = threadIdx.x;
    int from = 0;
    shared.sums[0][t] = value;
    __syncthreads();
    for (int reach = 1; reach < THREADS; reach *= 2) {
        shared.sums[1 - from][t] = shared.sums[from][t] + (t >= reach ? shared.sums[from][t - reach] : 0);
        from = 1 - from;
        __syncthreads();
    }
    return shared.sums[from][t] - value;
}

// Write the active list again in flat order, so that neighbors are advanced soon after each other.
__device__ void sort_active(const Domain& d, const Scratch& own, Shared& shared) {
    const int share = (own.words + THREADS - 1) / THREADS;
    const int first = threadIdx.x * share;
    const int last = first + share < own.words ? first + share : own.words;
    int count = 0;
    for (int w = first; w < last; ++w) count += __popc(own.awake[w]);
    int place = sum_before(shared, count);
    for (int w = first; w < last; ++w) {
        for (unsigned int bits = own.awake[w]; bits != 0; bits &= bits - 1) {
            own.active[place++] = d.starts[w * 32 + __ffs(bits) - 1];
        }
    }
    __syncthreads();
}

// Mark the blocks that hold something, then half a logistic step where the scheme splits.
__device__ void start(const Domain& d, const Scratch& own, Shared& shared, float* c, bool splits, float first) {
    for (int b = threadIdx.x; b < d.blocks; b += THREADS) {
        if (!holds_something(c, d.starts[b])) continue;
        wake(d, own, shared, b, 0);
        for (int i = d.starts[b]; splits && i < d.starts[b] + LANES; ++i) {
            if (c[i] > 0.0f) c[i] = fminf(react_exactly(c[i], first), 1.0f);
        }
    }
    __syncthreads();
}

// Wake what `c` will reach in sweep number `sweep`; returns how many blocks are active.
__device__ int prepare(const Domain& d, const Scratch& own, Shared& shared, const float* c, int sweep, int& ordered) {
    const int now = sweep % 2;
    activate_around(d, own, shared, c, now);
    __syncthreads();
    const int count = shared.active;
    if (threadIdx.x == 0) shared.frontier[now] = shared.large = 0;
    if (count > ordered + ordered / 8) {
        sort_active(d, own, shared);
        ordered = count;
    }
    return count;
}

// Count the voxels with c >= threshold; every thread gets the sum. Expects `large` to be 0.
__device__ int count_at_least(const Scratch& own, Shared& shared, const float* c, int count, float threshold) {
    int found = 0;
    for (int a = threadIdx.x / LANES; a < count; a += THREADS / LANES) {
        found += c[own.active[a] + threadIdx.x % LANES] >= threshold;
    }
    if (found) atomicAdd(&shared.large, found);
    __syncthreads();
    return shared.large;
}

// Leave the result in `c`, half a logistic step back if `undo`, and the CTA's memory as it was found.
__device__ void finish(const Scratch& own, int count, const float* result, float* c, bool undo, float ahead) {
    for (int a = threadIdx.x / LANES; a < count; a += THREADS / LANES) {
        const int i = own.active[a] + threadIdx.x % LANES;
        float value = result[i];
        if (undo && value > 0.0f) value = fminf(react_exactly(value, 1.0f / ahead), 1.0f);
        c[i] = value;
        own.other[i] = 0.0f;
    }
    for (int w = threadIdx.x; w < own.words; w += THREADS) own.awake[w] = 0;
}

// Advance c (size,) in place through all its pairs; report[3] = tissue-voxel updates, voxels with c >= size at the
// end, stopped as too big.
template <bool SPLITS>
__device__ void evolve_one(const Domain& d, const Scratch& own, Shared& shared, float* c, const Pair* pairs, int count,
                           float first, long long stop_count, float size, long long* report) {
    float *here = c, *there = own.other;
    int ordered = 0, sweeps = 0, steps = 0, pair = 0;
    long long updates = 0;
    bool stopped = false;
    start(d, own, shared, c, SPLITS, first);
    while (pair < count && !stopped) {
        const Pair p = pairs[pair++];
        int active = prepare(d, own, shared, here, sweeps++, ordered);
        int voxels = shared.voxels;
        updates += voxels;
        advance<SPLITS ? HALF_OF_PAIR : STEP_BY_EULER>(d, own, active, here, there, p.a, p.b);
        __syncthreads();
        if (SPLITS) {
            active = prepare(d, own, shared, there, sweeps++, ordered);
            voxels = shared.voxels;
            updates += voxels;
            if (p.ahead > 0.0f) {
                advance<REST_OF_STEP>(d, own, active, there, here, p.b, p.decay);
            } else {
                advance<REST_OF_PAIR>(d, own, active, there, here, p.b, p.decay);
            }
            __syncthreads();
        } else {
            float* const swap = here;
            here = there;
            there = swap;
        }
        if (p.ahead > 0.0f && ++steps % CHECK_EVERY == 0 && pair < count && voxels > stop_count) {
            const float seen = SPLITS ? size / (size + (1.0f - size) * p.ahead) : size;
            stopped = count_at_least(own, shared, here, active, seen) > stop_count;
        }
    }
    finish(own, shared.active, here, c, SPLITS && stopped, count ? pairs[pair - 1].ahead : 0.0f);
    __syncthreads();
    if (threadIdx.x == 0) shared.large = 0;
    __syncthreads();
    const int large = count_at_least(own, shared, c, shared.active, size);
    if (threadIdx.x == 0) {
        report[0] = updates;
        report[1] = large;
        report[2] = stopped;
    }
}

#ifndef WITHOUT_EVOLVE
// density (simulations, size) in place; pairs: those of all simulations, one after the other, simulation r's from
// offsets[r] to offsets[r + 1]; first (simulations,); report (simulations, 3); queue: simulations taken.
// With `splits`: scheme `converged`, otherwise GliomaSolver's forward Euler.
// Scratch: other (CTAs, size), lists (CTAs, 3, blocks), awake (CTAs, words); `other` and `awake` zero.
extern "C" __global__ void __launch_bounds__(THREADS, CTAS_PER_SM)
evolve(float* density, const Pair* pairs, const int* offsets, const float* first, long long* report, int* queue,
       const float* __restrict__ faces, const int* __restrict__ starts, const int* __restrict__ fill,
       const int* __restrict__ links, const int* __restrict__ link_offsets, float* other, int* lists,
       unsigned int* awake, int simulations, int size, int blocks, int words, int sx, int sy, int splits,
       long long stop_count, float size_density) {
    __shared__ Shared shared;
    const long long cta = blockIdx.x;
    int* const list = lists + cta * 3 * blocks;
    const Domain domain = {faces, faces + size, faces + 2LL * size, starts, fill, links, link_offsets, blocks, sx, sy};
    const Scratch own = {other + cta * size, list, list + blocks, awake + cta * words, words};
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) {
            shared.active = shared.voxels = shared.large = shared.frontier[0] = shared.frontier[1] = 0;
            shared.simulation = atomicAdd(queue, 1);
        }
        __syncthreads();
        const long long row = shared.simulation;
        if (row >= simulations) return;
        (splits ? evolve_one<true> : evolve_one<false>)(
            domain, own, shared, density + row * size, pairs + offsets[row], offsets[row + 1] - offsets[row],
            first[row], stop_count, size_density, report + 3 * row);
    }
}
#endif

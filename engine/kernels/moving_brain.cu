// The mass-effect model on a GPU: one launch advances a whole batch of simulations to their ends.
//
// The twin of engine.mass_effect and engine.moving_brain; elasticity.cu, multigrid.cu, transport.cu and mass_effect.cu
// do the work. A CTA takes a simulation from a queue and does everything for it: the host is not asked between, and a
// solve that does not converge ends its own simulation only.
//
// Two numbers, from counting and datasheets, not measured. The median of five accepted tumors in SRI24 at 128^3 takes
// 59 intervals, 118 solves and 720 iterations of them (benches/mass_effect.py). An iteration is 8 sweeps of 92 bytes
// over 31,000 cells and as much for what lies beside them, 31 MB; an interval carries 249,000 voxels through 3 to 6
// sweeps of 44 bytes and grows them in about 10 of 12 bytes, with the fields in between 120 MB. That is 29 GB a
// simulation, of which the 4.8 TB/s of an H200 do 165 a second. The other limit is waiting: an iteration has about 75
// barriers, most of them on grids of 4,000 and 500 cells where the CTA's 256 threads have little to do, 2 us each; that
// is 110 ms of a simulation, while with 396 of them at a time each may take 396 / 165 = 2.4 s. So a third of the first
// number is likely enough for 30 accepted samples a second, if half of what the screen lets through is accepted.
//
// Defined by the compiler's command line (engine.mass_effect_on_device): THREADS, CTAS_PER_SM, MOST_LEVELS, GRAY_SHARE,
// FIRST_INTERVAL and what the files before this one want.

enum Ended { DURATION, TOO_BIG, NOT_CONVERGED };

// What a run is asked for, the same for all simulations.
struct Settings {
    double shift, tolerance;  // expected move of an interval [mm]; relative residual
    int iterations;           // of a solve at most
    long long most;           // stop once more voxels hold `size`
    float size;
};

struct Counts {
    long long updates;
    int solves, iterations, coarse_substeps, substeps;
};

// The coarse fields carried from where `from` to where `to` takes them; both displacements [mm].
__device__ __noinline__ void move_coarse(const Brain& brain, Room& own, Work& work, const float* from, const float* to,
                                         int& substeps) {
    const Grid<float>& grid = work.levels[0].grid;
    double furthest = 0.0;
    for_faces(grid, [&](int at) {
        const float shift = (to[at] - from[at]) / brain.coarse_spacing * grid.free[at];
        own.coarse.shift[at] = shift;
        furthest = fmax(furthest, static_cast<double>(fabsf(shift)));
    });
    move(own.coarse, max_all(work.sums, furthest), substeps);
}

// Solve for the `solution` of the coarse fields as they are; false if it does not converge.
__device__ __noinline__ bool solve_displacement(const Brain& brain, const Room& own, Work& work, const Settings& asked,
                                                float coupling, Counts& counts) {
    mix(brain, own, work, coupling);
    assemble_all(work.levels, work.depth, work.sums);
    const int spent =
        solve(work.levels, work.depth, own.solution, own.direction, asked.tolerance, asked.iterations, work.sums);
    counts.solves += 1;
    counts.iterations += spent < 0 ? 0 : spent;
    return spent >= 0;
}

// Find the u that belongs to the density, as MovingBrain.settle; its change is left in `guess`, and the largest entry
// of that over `steps` in `furthest`. False if a solve does not converge.
__device__ __noinline__ bool settle(const Brain& brain, Room& own, Work& work, const Settings& asked, float coupling,
                                    int steps, Counts& counts, double& furthest) {
    const Grid<float>& grid = work.levels[0].grid;
    coarsen(brain, own);
    for_faces(grid, [&](int at) {
        own.guess[at] = 2.0f * own.carried[at] - own.u[at];
        own.solution[at] = own.guess[at];
    });
    move_coarse(brain, own, work, own.carried, own.guess, counts.coarse_substeps);
    if (!solve_displacement(brain, own, work, asked, coupling, counts)) return false;
    move_coarse(brain, own, work, own.guess, own.solution, counts.coarse_substeps);
    if (!solve_displacement(brain, own, work, asked, coupling, counts)) return false;
    double most = 0.0;
    for_faces(grid, [&](int at) {
        const float rate = (own.solution[at] - own.u[at]) / static_cast<float>(steps);
        own.u[at] = own.solution[at];
        own.guess[at] = rate;
        most = fmax(most, static_cast<double>(fabsf(rate)));
    });
    furthest = max_all(work.sums, most);
    return true;
}

// Move all fields to where u and `further` times its rate in `guess` take them.
__device__ __noinline__ void carry(const Brain& brain, Room& own, Work& work, float further, int& substeps) {
    for_faces(work.levels[0].grid, [&](int at) {
        const float target = own.u[at] + own.guess[at] * further;
        own.coarse.shift[at] = target - own.carried[at];
        own.carried[at] = target;
    });
    __syncthreads();
    move(own.fine, refine(brain, own, work.sums), substeps);
}

// Steps of the next interval if all that are left are cut into equal ones of about `wanted` steps.
__device__ inline int share_out(int left, double wanted) {
    return left ? static_cast<int>(ceil(left / fmax(1.0, rint(left / wanted)))) : 0;
}

__device__ bool is_too_big(const Brain& brain, const Room& own, Work& work, const Settings& asked) {
    double found = 0.0;
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) found += own.fine.here[brain.voxel[v]] >= asked.size;
    return sum_all(work.sums, found) > static_cast<double>(asked.most);
}

// The pairs of one interval's steps from `begin` on, made to end with a whole step; returns their end, and in `ahead`
// what the next interval begins with.
__device__ int cut_interval(Pair* pairs, int begin, int steps, float& ahead) {
    int end = begin;
    for (int n = 0; n < steps; ++end) n += pairs[end].ahead > 0.0f;
    ahead = pairs[end - 1].ahead;
    __syncthreads();
    if (threadIdx.x == 0) {
        pairs[end - 1].decay /= ahead;
        pairs[end - 1].ahead = 1.0f;
    }
    __syncthreads();
    return end;
}

// Advance one simulation from its start in `fine.here` to its end.
__device__ Ended push_one(const Brain& brain, Room& own, Shared& shared, Work& work, const Settings& asked, Pair* pairs,
                          int steps, float first, float coupling, Counts& counts) {
    double wanted = coupling == 0.0f ? steps : static_cast<double>(steps) / FIRST_INTERVAL;
    for (int done = 0, begin = 0; done < steps;) {
        const int count = share_out(steps - done, wanted);
        float ahead;
        const int end = cut_interval(pairs, begin, count, ahead);
        counts.updates += grow(brain, own, shared, work, pairs + begin, end - begin, first);
        done += count;
        begin = end;
        first = ahead;
        double furthest;
        if (!settle(brain, own, work, asked, coupling, count, counts, furthest)) return NOT_CONVERGED;
        wanted = furthest > 0 ? fmin(fmax(asked.shift / furthest, wanted / 2), 2 * wanted) : 2 * wanted;
        carry(brain, own, work, static_cast<float>(share_out(steps - done, wanted) / 2.0), counts.substeps);
        if (is_too_big(brain, own, work, asked)) return TOO_BIG;
    }
    return DURATION;
}

// Lay out what a CTA works on; `sizes` are engine.mass_effect_on_device's, in its order.
__device__ void lay_out(Brain& brain, Room& own, Work& work, const int* sizes, const int* level_places,
                        const float* level_fields, float* growth, float* fine, float* coarse, float* levels,
                        int* lists) {
    work.depth = sizes[0];
    brain.voxels = sizes[1];
    brain.filled = sizes[2];
    brain.halvings = sizes[3];
    brain.nx = sizes[4];
    brain.ny = sizes[5];
    brain.nz = sizes[6];
    lay_out_levels(work.levels, work.depth, sizes + 7, level_places, level_fields, levels);
    const Grid<float>& grid = work.levels[0].grid;
    const long long box = static_cast<long long>(brain.nx) * brain.ny * brain.nz, size = brain.size, cells = grid.cells;
    own.density = growth;
    own.other = growth + size;
    own.mobility = growth + 2 * size;
    own.faces = growth + 3 * size;
    own.fine = {brain.ny * brain.nz, brain.nz, static_cast<int>(box), brain.voxels, brain.voxel,
                fine, fine + FIELDS * box, fine + 2 * FIELDS * box};
    own.coarse = {grid.ny * grid.nz, grid.nz, grid.cells, brain.filled, brain.coarse,
                  coarse, coarse + FIELDS * cells, coarse + 2 * FIELDS * cells};
    float* const vectors = coarse + (2 * FIELDS + 3) * cells;
    own.u = vectors;
    own.carried = vectors + 3 * cells;
    own.guess = vectors + 6 * cells;
    own.solution = vectors + 9 * cells;
    own.direction = vectors + 12 * cells;
    own.active = lists;
    own.frontier = lists + brain.domain.blocks;
}

// Tissue at rest, the density that `state` (FIELDS, voxels) begins with, and no displacement.
__device__ void set_up(const Brain& brain, const Room& own, const Grid<float>& grid, const float* state) {
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        float* const at = own.fine.here + brain.voxel[v];
        at[0] = state[v];
        for (int m = 1; m < FIELDS; ++m) {
            const float* const rest = brain.rest + static_cast<long long>(m - 1) * brain.voxels;
            at[static_cast<long long>(m) * own.fine.cells] = rest[v];
        }
    }
    for_faces(grid, [&](int at) { own.u[at] = own.carried[at] = 0.0f; });
    __syncthreads();
}

__device__ void hand_over(const Brain& brain, const Room& own, const Grid<float>& grid, float* state, float* carried) {
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        for (int m = 0; m < FIELDS; ++m) {
            state[static_cast<long long>(m) * brain.voxels + v] =
                own.fine.here[static_cast<long long>(m) * own.fine.cells + brain.voxel[v]];
        }
    }
    for_faces(grid, [&](int at) { carried[at] = own.carried[at]; });
}

// state (simulations, FIELDS, voxels): the density to begin with, and what became of all fields; carried (simulations,
// 3, coarse): the displacement, 0 before. pairs, offsets and first as in `evolve`, pairs are overwritten; steps and
// coupling (simulations,); report (simulations, 5): Ended, updates, solves, iterations, sub-steps; queue: simulations
// taken. What follows is the brain, then each CTA's scratch, all of it 0, then the settings.
extern "C" __global__ void __launch_bounds__(THREADS, CTAS_PER_SM)
push(float* state, float* carried, Pair* pairs, const int* offsets, const float* first, const int* steps,
     const float* coupling, long long* report, int* queue, const int* starts, const int* fill, const int* links,
     const int* link_offsets, const int* sizes, const int* voxel, const int* place, const int* coarse_places,
     const float* rest, const float* inside, const float* share, const float* lame, const int* level_places,
     const float* level_fields, float* growth, float* fine, float* coarse, float* middle, float* levels, int* lists,
     unsigned int* awake, int simulations, int size, int blocks, int words, int sx, int sy, int middle_size,
     int level_cells, float spacing, float coarse_spacing, double shift, double tolerance, int iterations,
     long long most, float size_density) {
    __shared__ Shared shared;
    __shared__ Work work;
    __shared__ Brain brain;
    __shared__ Room own;
    const long long cta = blockIdx.x;
    if (threadIdx.x == 0) {
        brain.domain = {nullptr, nullptr, nullptr, starts, fill, links, link_offsets, blocks, sx, sy};
        brain.size = size;
        brain.words = words;
        brain.voxel = voxel;
        brain.place = place;
        brain.coarse = coarse_places;
        brain.rest = rest;
        brain.inside = inside;
        brain.share = share;
        brain.lame = lame;
        brain.spacing = spacing;
        brain.coarse_spacing = coarse_spacing;
        const long long box = static_cast<long long>(sizes[4]) * sizes[5] * sizes[6];
        const long long cells = static_cast<long long>(sizes[7]) * sizes[8] * sizes[9];
        lay_out(brain, own, work, sizes, level_places, level_fields, growth + cta * GROWTH_FIELDS * size,
                fine + cta * FINE_FIELDS * box, coarse + cta * COARSE_FIELDS * cells,
                levels + cta * LEVEL_FIELDS * level_cells, lists + cta * 3 * blocks);
        own.middle = middle + cta * middle_size;
        own.awake = awake + cta * words;
    }
    const Settings asked = {shift, tolerance, iterations, most, size_density};
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) shared.simulation = atomicAdd(queue, 1);
        __syncthreads();
        const long long row = shared.simulation;
        if (row >= simulations) return;
        const Grid<float> grid = work.levels[0].grid;
        float* const own_state = state + row * FIELDS * brain.voxels;
        set_up(brain, own, grid, own_state);
        Counts counts = {0, 0, 0, 0, 0};
        const Ended ended = push_one(brain, own, shared, work, asked, pairs + offsets[row], steps[row], first[row],
                                     coupling[row], counts);
        hand_over(brain, own, grid, own_state, carried + row * 3 * grid.cells);
        if (threadIdx.x == 0) {
            const long long found[5] = {ended, counts.updates, counts.solves, counts.iterations, counts.substeps};
            for (int n = 0; n < 5; ++n) report[5 * row + n] = found[n];
        }
    }
}

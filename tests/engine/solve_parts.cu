// Parts of the displacement solve as kernels of one CTA, each in the precision REAL.

constexpr int PARTS = 2;  // a V-cycle, a solve

// u (3, cells): in a first guess, out the answer to `force`; lam, mu (cells,) inside the brain. report: iterations.
extern "C" __global__ void __launch_bounds__(THREADS, CTAS_PER_SM)
solve_part(REAL* u, const REAL* force, const REAL* lam, const REAL* mu, const int* shapes, const int* places,
           const REAL* fields, REAL* own, REAL* direction, int depth, int part, double tolerance, int most,
           long long* report) {
    __shared__ Level<REAL> levels[MOST_LEVELS];
    __shared__ double room[THREADS];
    if (threadIdx.x == 0) lay_out_levels(levels, depth, shapes, places, fields, own);
    __syncthreads();
    const Grid<REAL> grid = levels[0].grid;
    for (int at = threadIdx.x; at < grid.cells; at += THREADS) {
        levels[0].lam[at] = lam[at] * grid.inside[at];
        levels[0].mu[at] = mu[at] * grid.inside[at];
        for (int axis = 0; axis < 3; ++axis) levels[0].b[axis * grid.cells + at] = force[axis * grid.cells + at];
    }
    __syncthreads();
    assemble_all(levels, depth, room);
    if (part == 0) {
        const REAL* const found = v_cycle(levels, depth);
        for_faces(grid, [&](int at) { u[at] = found[at]; });
    } else {
        const int spent = solve(levels, depth, u, direction, tolerance, most, room);
        if (threadIdx.x == 0) report[0] = spent;
    }
}

// What couples growth and displacement on a GPU, by one CTA.
//
// The twin of mass_effect.py, of what engine.cutout takes from grid to grid, and of engine.elasticity.mix_lame, bit for
// bit. Growth is evolve_one of fisher_kolmogorov.cu.
//
// Defined by the compiler's command line (engine.mass_effect_on_device): THREADS, MOST_LEVELS, GRAY_SHARE and what the
// files before this one want.

// The brain that all simulations share: engine.cutout.Cutout, with its voxels and coarse cells as lists.
struct Brain {
    Domain domain;                      // of the growth; its faces are the simulation's own
    int size, words, voxels;            // places of the domain, words of a bit per block, voxels of the brain
    int nx, ny, nz, halvings, filled;   // the box; how often it is halved to the coarse one; coarse cells with brain
    const int *voxel, *place, *coarse;  // (voxels,) in the box and in the domain; (filled,) in the coarse box
    const float *rest, *inside, *share; // (3, voxels) tissue at rest; (box) 1 in the brain; (coarse) 1 / voxels of it
    const float* lame;                  // (FIELDS, 2) lambda, mu [kPa] of tumor, white matter, gray matter, CSF
    float spacing, coarse_spacing;      // [mm]
};

// One CTA's own memory. Places outside the lists of `Brain` are 0.
struct Room {
    float *density, *other, *faces, *mobility;  // of the domain: (size,), (size,), (3, size), (size,)
    float* middle;                              // displacement on grids between the coarse and the fine one
    Freight fine, coarse;
    float *u, *carried, *guess, *solution, *direction;  // (3, coarse)
    int *active, *frontier;
    unsigned int* awake;
};

struct Work {
    Level<float> levels[MOST_LEVELS];
    int depth;
    double sums[THREADS];
    long long report[3];
};

// D / D_w of the current tissue, by the rule of the atlas.
__device__ inline float mobility_of(float white, float gray, float csf) {
    const float matter = white + gray;
    return matter > 0.0f && matter >= csf ? (white + GRAY_SHARE * gray) / matter : 0.0f;
}

__device__ inline float harmonic(double a, double b) {
    const double product = a * b;
    return product > 0 ? static_cast<float>((product + product) / (a + b)) : 0.0f;
}

// Growth in the current tissue by `count` pairs; returns the updates.
__device__ __noinline__ long long grow(const Brain& brain, const Room& own, Shared& shared, Work& work,
                                       const Pair* pairs, int count, float first) {
    const int box = own.fine.cells, strides[3] = {brain.domain.sx, brain.domain.sy, 1};
    float* const c = own.fine.here;
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        const float* const matter = c + box + brain.voxel[v];
        own.mobility[brain.place[v]] = mobility_of(matter[0], matter[box], matter[2LL * box]);
    }
    if (threadIdx.x == 0) {
        shared.active = shared.voxels = shared.large = shared.frontier[0] = shared.frontier[1] = 0;
    }
    __syncthreads();
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        const int p = brain.place[v];
        const float here = own.mobility[p];
        for (int axis = 0; axis < 3; ++axis) {
            own.faces[static_cast<long long>(axis) * brain.size + p] = harmonic(here, own.mobility[p + strides[axis]]);
        }
        own.density[p] = here > 0.0f ? c[brain.voxel[v]] : 0.0f;
    }
    __syncthreads();
    Domain domain = brain.domain;
    domain.fx = own.faces;
    domain.fy = own.faces + brain.size;
    domain.fz = own.faces + 2LL * brain.size;
    const Scratch scratch = {own.other, own.active, own.frontier, own.awake, brain.words};
    const long long never = 0x7fffffffffffffffLL;
    evolve_one<true>(domain, scratch, shared, own.density, pairs, count, first, never, 1.0f, work.report);
    __syncthreads();
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        const int p = brain.place[v];
        if (own.mobility[p] > 0.0f) c[brain.voxel[v]] = own.density[p];
    }
    __syncthreads();
    return work.report[0];
}

// Means of the fields over the brain's part of every coarse cell.
__device__ __noinline__ void coarsen(const Brain& brain, const Room& own) {
    const int factor = 1 << brain.halvings, ny = brain.ny >> brain.halvings, nz = brain.nz >> brain.halvings;
    for (int n = threadIdx.x; n < brain.filled; n += THREADS) {
        const int at = brain.coarse[n], k = at % nz, j = at / nz % ny, i = at / (ny * nz);
        for (int field = 0; field < FIELDS; ++field) {
            const float* const from = own.fine.here + static_cast<long long>(field) * own.fine.cells;
            float total = 0.0f;
            for (int c = 0; c < factor; ++c) {
                float column = 0.0f;
                for (int a = 0; a < factor; ++a) {
                    for (int b = 0; b < factor; ++b) {
                        column += from[((i * factor + a) * brain.ny + j * factor + b) * brain.nz + k * factor + c];
                    }
                }
                total += column;
            }
            own.coarse.here[static_cast<long long>(field) * own.coarse.cells + at] = total * brain.share[at];
        }
    }
    __syncthreads();
}

// Lame fields of the finest level and the force in its b, from the coarse fields.
__device__ __noinline__ void mix(const Brain& brain, const Room& own, Work& work, float coupling) {
    const Level<float>& level = work.levels[0];
    const Grid<float>& grid = level.grid;
    const float* const fields = own.coarse.here;
    for (int n = threadIdx.x; n < brain.filled; n += THREADS) {
        const int at = brain.coarse[n];
        const float density = fields[at], c = density < 1.0f ? density : 1.0f;
        float total = 0.0f;
        for (int m = 1; m < FIELDS; ++m) total += fields[m * grid.cells + at];
        const float rest = total > 0.0f ? (1.0f - c) / total : 0.0f;
        float lam = brain.lame[0] * c, mu = brain.lame[1] * c;
        for (int m = 1; m < FIELDS; ++m) {
            const float share = rest * fields[m * grid.cells + at];
            lam += brain.lame[2 * m] * share;
            mu += brain.lame[2 * m + 1] * share;
        }
        level.lam[at] = lam * grid.inside[at];
        level.mu[at] = mu * grid.inside[at];
    }
    const int strides[3] = {grid.ny * grid.nz, grid.nz, 1};
    for (int n = threadIdx.x; n < grid.count; n += THREADS) {
        const int i = grid.places[n];
        for (int axis = 0; axis < 3; ++axis) {
            const float drop = coupling * fields[i - strides[axis]] - coupling * fields[i];
            level.b[axis * grid.cells + i] = brain.coarse_spacing * drop * grid.free[axis * grid.cells + i];
        }
    }
    __syncthreads();
}

// The displacement of the coarse lower faces in `coarse.shift` [mm], interpolated to the box's and in cells, in
// `fine.shift`; returns its largest entry.
__device__ __noinline__ double refine(const Brain& brain, const Room& own, double* room) {
    const float* from = own.coarse.shift;
    float* to = own.middle;
    for (int left = brain.halvings - 1; left > 0; --left) {
        const int nx = brain.nx >> left, ny = brain.ny >> left, nz = brain.nz >> left, cells = nx * ny * nz;
        for (int at = threadIdx.x; at < cells; at += THREADS) {
            const int k = at % nz, j = at / nz % ny, i = at / (ny * nz);
            if (i < 1 || j < 1 || k < 1 || i + 1 >= nx || j + 1 >= ny || k + 1 >= nz) continue;
            for (int axis = 0; axis < 3; ++axis) {
                to[axis * cells + at] = interpolate(from + axis * (cells / 8), axis, ny / 2, nz / 2, i, j, k);
            }
        }
        from = to;
        to += 3 * cells;
        __syncthreads();
    }
    const int box = own.fine.cells, strides[3] = {own.fine.sx, own.fine.sy, 1};
    double furthest = 0.0;
    for (int v = threadIdx.x; v < brain.voxels; v += THREADS) {
        const int at = brain.voxel[v], k = at % brain.nz, j = at / brain.nz % brain.ny, i = at / own.fine.sx;
        for (int axis = 0; axis < 3; ++axis) {
            const float u = brain.halvings
                                ? interpolate(from + axis * (box / 8), axis, brain.ny / 2, brain.nz / 2, i, j, k)
                                : from[static_cast<long long>(axis) * box + at];
            const float shift = u / brain.spacing * brain.inside[at - strides[axis]];
            own.fine.shift[static_cast<long long>(axis) * box + at] = shift;
            furthest = fmax(furthest, static_cast<double>(fabsf(shift)));
        }
    }
    return max_all(room, furthest);
}

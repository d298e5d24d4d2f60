// The displacement solve on a GPU, by one CTA: conjugate gradients, and a V-cycle of multigrid before each.
//
// The twin of engine.multigrid and Elasticity.solve, bit for bit but for sums over a whole grid, whose order is another
// there: here they are taken in double precision. On its way through device memory a relaxation moves 92 bytes for each
// cell of the brain (in float: 17 numbers in, 6 out); all else comes from caches.
//
// Defined by the compiler's command line (engine.mass_effect_on_device): THREADS in a CTA, and the cycle's SMOOTHING,
// SMOOTHED_BAND, COARSEST_STEPS and COARSEST_BAND.

// Where a level's displacement lies after this many exchanges of `u` and `other`.
template <class T>
__device__ inline T* after(const Level<T>& level, int exchanges) { return exchanges % 2 ? level.other : level.u; }

// One Chebyshev step from `u` to `next`: step = keep step + add scale (b - A u).
template <class T>
__device__ __noinline__ void relax(const Level<T>& level, const T* u, T* next, T keep, T add) {
    const Stress<T> stress(level, u);
    const T *const scale = level.scale, *const b = level.b;
    T* const step = level.step;
    const int *const places = level.grid.places, count = level.grid.count, cells = level.grid.cells;
    for (int n = threadIdx.x; n < count; n += THREADS) {
        const int i = places[n];
        T force[3];
        stress.force(i, force);
        for (int axis = 0; axis < 3; ++axis) {
            const int at = axis * cells + i;
            const T move = keep * step[at] + add * (scale[at] * (b[at] - force[axis]));
            step[at] = move;
            next[at] = u[at] + move;
        }
    }
    __syncthreads();
}

// The first step from u = 0.
template <class T>
__device__ void relax_first(const Level<T>& level, T* u, T add) {
    for_faces(level.grid, [&](int at) { u[at] = level.step[at] = add * (level.scale[at] * level.b[at]); });
    __syncthreads();
}

// Chebyshev steps towards A u = b. Every step but the first one from 0 exchanges the two copies of u, of which
// `exchanges` were made before.
template <class T>
__device__ __noinline__ void smooth(const Level<T>& level, int steps, double band, bool from_zero, int exchanges) {
    const double center = level.largest * (1 + 1 / band) / 2, radius = level.largest * (1 - 1 / band) / 2;
    double keep = 0.0, add = 1 / center, rho = radius / center;
    for (int done = 0; done < steps; ++done) {
        if (done == 0 && from_zero) {
            relax_first(level, after(level, exchanges), T(add));
        } else {
            relax(level, after(level, exchanges), after(level, exchanges + 1), T(keep), T(add));
            exchanges += 1;
        }
        const double following = 1 / (2 * center / radius - rho);
        keep = following * rho;
        add = 2 * following / radius;
        rho = following;
    }
}

// Coarse b = half the transpose of the interpolation of the fine r.
template <class T>
__device__ __noinline__ void restrict_residual(const Level<T>& fine, const Level<T>& coarse) {
    const Grid<T>&grid = coarse.grid, &wide = fine.grid;
    const int sx = wide.ny * wide.nz, sy = wide.nz;
    for (int n = threadIdx.x; n < grid.count; n += THREADS) {
        const int place = grid.places[n], k = place % grid.nz, j = place / grid.nz % grid.ny;
        const int corner = 2 * (place / (grid.ny * grid.nz)) * sx + 2 * j * sy + 2 * k;
        for (int axis = 0; axis < 3; ++axis) {
            T row[4] = {0, 0, 0, 0};
            for (int a = -1; a < (axis == 0 ? 2 : 3); ++a) {
                const double wa = axis == 0 ? (a ? 0.5 : 1.0) : (a == 0 || a == 1 ? 0.75 : 0.25);
                for (int b = -1; b < (axis == 1 ? 2 : 3); ++b) {
                    const double wb = axis == 1 ? (b ? 0.5 : 1.0) : (b == 0 || b == 1 ? 0.75 : 0.25);
                    const T weight = 0.5 * wa * wb;
                    const T* const from = fine.r + axis * wide.cells + corner + a * sx + b * sy - 1;
                    for (int c = 0; c < (axis == 2 ? 3 : 4); ++c) row[c] += weight * from[c];
                }
            }
            const T value = axis == 2 ? row[1] + T(0.5) * (row[0] + row[2])
                                      : T(0.75) * (row[1] + row[2]) + T(0.25) * (row[0] + row[3]);
            coarse.b[axis * grid.cells + place] = value * grid.free[axis * grid.cells + place];
        }
    }
    __syncthreads();
}

// Add a coarse displacement to the fine u on its free faces.
template <class T>
__device__ __noinline__ void prolong_add(const Grid<T>& coarse, const T* values, const Grid<T>& grid, T* u) {
    for (int n = threadIdx.x; n < grid.count; n += THREADS) {
        const int place = grid.places[n], k = place % grid.nz, j = place / grid.nz % grid.ny;
        const int i = place / (grid.ny * grid.nz);
        for (int axis = 0; axis < 3; ++axis) {
            const int at = axis * grid.cells + place;
            u[at] += interpolate(values + axis * coarse.cells, axis, coarse.ny, coarse.nz, i, j, k) * grid.free[at];
        }
    }
    __syncthreads();
}

// The approximate solution of A u = b for the finest level's b.
template <class T>
__device__ __noinline__ T* v_cycle(const Level<T>* levels, int count) {
    constexpr int DOWN = SMOOTHING - 1, UP = DOWN + SMOOTHING, COARSEST = COARSEST_STEPS - 1;
    for (int n = 0; n + 1 < count; ++n) {
        const Level<T>& fine = levels[n];
        smooth(fine, SMOOTHING, SMOOTHED_BAND, true, 0);
        residual(fine, fine.b, after(fine, DOWN), fine.r);
        restrict_residual(fine, levels[n + 1]);
    }
    smooth(levels[count - 1], COARSEST_STEPS, COARSEST_BAND, true, 0);
    for (int n = count - 2; n >= 0; --n) {
        const Level<T>&fine = levels[n], &coarse = levels[n + 1];
        const T* const found = after(coarse, n + 2 == count ? COARSEST : UP);
        prolong_add(coarse.grid, found, fine.grid, after(fine, DOWN));
        smooth(fine, SMOOTHING, SMOOTHED_BAND, false, DOWN);
    }
    return after(levels[0], count == 1 ? COARSEST : UP);
}

// Lame fields of a coarse level from the next finer one's.
template <class T>
__device__ __noinline__ void coarsen_lame(const Level<T>& fine, const Level<T>& coarse) {
    const Grid<T>& grid = coarse.grid;
    const int sx = fine.grid.ny * fine.grid.nz, sy = fine.grid.nz;
    for (int at = threadIdx.x; at < grid.cells; at += THREADS) {
        const int k = at % grid.nz, j = at / grid.nz % grid.ny, i = at / (grid.ny * grid.nz);
        const int corner = 2 * i * sx + 2 * j * sy + 2 * k;
        for (int field = 0; field < 2; ++field) {
            const T *a = (field ? fine.mu : fine.lam) + corner, *b = a + sy, *c = a + sx, *d = c + sy;
            const T total = (a[0] + a[1]) + (b[0] + b[1]) + (c[0] + c[1]) + (d[0] + d[1]);
            (field ? coarse.mu : coarse.lam)[at] = total * grid.share[at] * grid.inside[at];
        }
    }
    __syncthreads();
}

// The finest level has its lam and mu; everything else of all levels follows.
template <class T>
__device__ void assemble_all(Level<T>* levels, int count, double* room) {
    assemble(levels[0], room);
    for (int n = 1; n < count; ++n) {
        coarsen_lame(levels[n - 1], levels[n]);
        assemble(levels[n], room);
    }
}

// Solve A u = r from the first guess u, with r the finest level's b and left as what remains; `direction` is scratch.
// Returns the iterations, or -1 if `most` of them do not reach the relative residual `tolerance`.
template <class T>
__device__ __noinline__ int solve(const Level<T>* levels, int count, T* u, T* direction, double tolerance, int most,
                                  double* room) {
    const Level<T>& fine = levels[0];
    const Grid<T>& grid = fine.grid;
    T *const r = fine.b, *const image = fine.r;
    const double size = sqrt(dot(grid, r, r, room));
    for_faces(grid, [&](int at) {
        u[at] = size > 0 ? u[at] * grid.free[at] : T(0);
        direction[at] = 0;
    });
    __syncthreads();
    if (size > 0) residual(fine, r, u, r);
    double before = 1.0;
    for (int done = 0;; ++done) {
        if (sqrt(dot(grid, r, r, room)) <= tolerance * size) return done;
        if (done == most) return -1;
        const T* const better = v_cycle(levels, count);
        const double now = dot(grid, r, better, room);
        const T keep = done ? now / before : 0.0;
        for_faces(grid, [&](int at) {
            direction[at] = direction[at] * keep + better[at];
        });
        __syncthreads();
        residual(fine, static_cast<const T*>(nullptr), direction, image);
        const T step = -now / dot(grid, direction, image, room);
        for_faces(grid, [&](int at) {
            u[at] += step * direction[at];
            r[at] += step * image[at];
        });
        before = now;
        __syncthreads();
    }
}

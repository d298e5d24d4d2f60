// The elastic operator of one grid on a GPU, by one CTA: stresses, forces, and the fields that they need.
//
// The twin of elasticity.py, bit for bit: staggered grid, units and signs are as there. A thread computes the three
// forces of a cell from 27 displacements, most of which come from the first cache.
//
// Defined by the compiler's command line (engine.mass_effect_on_device): THREADS in a CTA.

// What all simulations share of one grid; fields are flat, vectors (3, cells).
template <class T>
struct Grid {
    int nx, ny, nz, cells;
    int count;            // cells that have a free face
    const int* places;    // (count,) their flat places, ascending
    const T* inside;      // 1 in the brain
    const T* free;        // 1 on the faces between two cells of the brain
    const T* edge_share;  // makes mu on an edge from the sum of the cells around it
    const T* share;       // 1 / number of the next finer grid's brain cells in a cell
};

// One grid of a simulation. Outside `places` vectors are 0.
template <class T>
struct Level {
    Grid<T> grid;
    T *lam, *mu;               // [kPa], 0 outside the brain
    T *edge, *scale;           // mean mu around the edges; 1 / diag(A), 0 on held faces
    T *u, *other, *step, *b, *r;
    double largest;            // eigenvalue of diag(A)^-1 A at most
};

// Lay out `depth` grids, the finest first; shapes (depth, 4): cells along each axis and `count`. What all simulations
// share is (GRID_FIELDS, cells) of one level after the other, what is a simulation's own is (LEVEL_FIELDS, cells).
template <class T>
__device__ void lay_out_levels(Level<T>* levels, int depth, const int* shapes, const int* places, const T* fields,
                               T* own) {
    for (int n = 0; n < depth; ++n) {
        const int* const shape = shapes + 4 * n;
        const int cells = shape[0] * shape[1] * shape[2];
        levels[n] = {{shape[0], shape[1], shape[2], cells, shape[3], places, fields, fields + cells, fields + 4 * cells,
                      fields + 7 * cells},
                     own, own + cells, own + 2 * cells, own + 5 * cells, own + 8 * cells, own + 11 * cells,
                     own + 14 * cells, own + 17 * cells, own + 20 * cells, 0.0};
        places += shape[3];
        fields += GRID_FIELDS * cells;
        own += LEVEL_FIELDS * cells;
    }
}

// Call `work` with the place of every component on a cell's lower faces, for the cells that have a free face.
template <class T, class Work>
__device__ inline void for_faces(const Grid<T>& grid, Work work) {
    for (int n = threadIdx.x; n < grid.count; n += THREADS) {
        const int i = grid.places[n];
        for (int axis = 0; axis < 3; ++axis) work(axis * grid.cells + i);
    }
}

// Sum, or maximum, over the threads of a CTA of one number each; every thread gets it, and it is the same every time.
__device__ __noinline__ double combine_all(double* room, double value, bool largest) {
    const int t = threadIdx.x;
    __syncthreads();
    room[t] = value;
    __syncthreads();
    for (int n = THREADS; n > 1;) {
        const int half = (n + 1) / 2;
        if (t < n - half) {
            const double here = room[t], there = room[t + half];
            room[t] = largest ? (here > there ? here : there) : here + there;
        }
        n = half;
        __syncthreads();
    }
    return room[0];
}

__device__ inline double sum_all(double* room, double value) { return combine_all(room, value, false); }
__device__ inline double max_all(double* room, double value) { return combine_all(room, value, true); }

template <class T>
__device__ double dot(const Grid<T>& grid, const T* a, const T* b, double* room) {
    double total = 0.0;
    for_faces(grid, [&](int at) { total += static_cast<double>(a[at]) * b[at]; });
    return sum_all(room, total);
}

// Stresses of a displacement u, and A u, at a flat place.
template <class T>
struct Stress {
    const T *u, *lam, *mu, *edge;
    int cells, sx, sy;

    __device__ Stress(const Level<T>& level, const T* u)
        : u(u), lam(level.lam), mu(level.mu), edge(level.edge), cells(level.grid.cells),
          sx(level.grid.ny * level.grid.nz), sy(level.grid.nz) {}

    // Rise of component `axis` from place i to the one `stride` above.
    __device__ T rise(int axis, int i, int stride) const { return u[axis * cells + i + stride] - u[axis * cells + i]; }

    __device__ T normal(int axis, int stride, int i) const {
        const T pressure = lam[i] * (rise(0, i, sx) + rise(1, i, sy) + rise(2, i, 1));
        return pressure + (mu[i] + mu[i]) * rise(axis, i, stride);
    }
    __device__ T xy(int i) const { return edge[i] * (rise(0, i - sy, sy) + rise(1, i - sx, sx)); }
    __device__ T xz(int i) const { return edge[cells + i] * (rise(0, i - 1, 1) + rise(2, i - sx, sx)); }
    __device__ T yz(int i) const { return edge[2 * cells + i] * (rise(1, i - 1, 1) + rise(2, i - sy, sy)); }

    __device__ void force(int i, T* out) const {
        const T sxy = xy(i), sxz = xz(i), syz = yz(i);
        out[0] = (normal(0, sx, i - sx) - normal(0, sx, i)) + (sxy - xy(i + sy)) + (sxz - xz(i + 1));
        out[1] = (normal(1, sy, i - sy) - normal(1, sy, i)) + (sxy - xy(i + sx)) + (syz - yz(i + 1));
        out[2] = (normal(2, 1, i - 1) - normal(2, 1, i)) + (sxz - xz(i + sx)) + (syz - yz(i + sy));
    }
};

// out = b - A u on the free faces; b may be null for 0, and may be `out`.
template <class T>
__device__ __noinline__ void residual(const Level<T>& level, const T* b, const T* u, T* out) {
    const Stress<T> stress(level, u);
    for (int n = threadIdx.x; n < level.grid.count; n += THREADS) {
        const int i = level.grid.places[n];
        T force[3];
        stress.force(i, force);
        for (int axis = 0; axis < 3; ++axis) {
            const int at = axis * level.grid.cells + i;
            out[at] = ((b ? b[at] : T(0)) - force[axis]) * level.grid.free[at];
        }
    }
    __syncthreads();
}

// The two coarse places, with weights, that fine place i is interpolated from.
struct Taps {
    int first, second;
    double own, beside;

    __device__ Taps(bool staggered, int i) {
        first = i / 2;
        second = staggered ? first + i % 2 : first + 2 * (i % 2) - 1;
        own = staggered ? 0.5 : 0.75;
        beside = staggered ? 0.5 : 0.25;
    }
};

// Component `axis` of a coarse displacement (coarse grid: ny, nz cells along y and z), interpolated to a fine place.
template <class T>
__device__ T interpolate(const T* coarse, int axis, int ny, int nz, int i, int j, int k) {
    const Taps x(axis == 0, i), y(axis == 1, j), z(axis == 2, k);
    const T weights[4] = {T(x.own * y.own), T(x.beside * y.own), T(x.own * y.beside), T(x.beside * y.beside)};
    const int rows[4] = {(x.first * ny + y.first) * nz, (x.second * ny + y.first) * nz,
                         (x.first * ny + y.second) * nz, (x.second * ny + y.second) * nz};
    T here = 0, beside = 0;
    for (int n = 0; n < 4; ++n) {
        here += weights[n] * coarse[rows[n] + z.first];
        beside += weights[n] * coarse[rows[n] + z.second];
    }
    if (axis == 2) return k % 2 ? T(0.5) * (here + beside) : here;
    return T(0.75) * here + T(0.25) * beside;
}

// Fill edge, scale and the largest eigenvalue of a level from its lam and mu; a barrier must follow.
template <class T>
__device__ __noinline__ void assemble(Level<T>& level, double* room) {
    const Grid<T>& grid = level.grid;
    const int sx = grid.ny * grid.nz, sy = grid.nz, cells = grid.cells;
    const T *lam = level.lam, *mu = level.mu, *xy = level.edge, *xz = xy + cells, *yz = xz + cells;
    double ratio = 0.0;
    for (int at = threadIdx.x; at < cells; at += THREADS) {
        const int k = at % grid.nz, j = at / grid.nz % grid.ny, i = at / sx;
        if (mu[at] > T(0)) ratio = fmax(ratio, static_cast<double>(lam[at] / mu[at]));
        if (i < 1 || j < 1 || k < 1) continue;
        const T m = mu[at], x = mu[at - sx], y = mu[at - sy], z = mu[at - 1];
        level.edge[at] = (m + x + y + mu[at - sx - sy]) * grid.edge_share[at];
        level.edge[cells + at] = (m + x + z + mu[at - sx - 1]) * grid.edge_share[cells + at];
        level.edge[2 * cells + at] = (m + y + z + mu[at - sy - 1]) * grid.edge_share[2 * cells + at];
    }
    ratio = max_all(room, ratio);
    if (threadIdx.x == 0) level.largest = 2 + (8 * ratio + 4) / (2 * ratio + 6);
    for (int n = threadIdx.x; n < grid.count; n += THREADS) {
        const int i = grid.places[n];
        const T here = lam[i] + mu[i] + mu[i];
        const T total[3] = {here + lam[i - sx] + mu[i - sx] + mu[i - sx] + (xy[i] + xy[i + sy] + xz[i] + xz[i + 1]),
                            here + lam[i - sy] + mu[i - sy] + mu[i - sy] + (xy[i] + xy[i + sx] + yz[i] + yz[i + 1]),
                            here + lam[i - 1] + mu[i - 1] + mu[i - 1] + (xz[i] + xz[i + sx] + yz[i] + yz[i + sy])};
        for (int axis = 0; axis < 3; ++axis) {
            const int at = axis * cells + i;
            level.scale[at] = grid.free[at] > T(0) ? T(1) / total[axis] : T(0);
        }
    }
    __syncthreads();
    for (int n = threadIdx.x; n < grid.nx * grid.nz; n += THREADS) {  // no stress in the last row, as in the twin
        const int at = n / grid.nz * sx + sx - grid.nz + n % grid.nz;
        level.edge[at] = level.edge[2 * cells + at] = T(0);
    }
}

// The conservative transport on a GPU, by one CTA: four fields at a time, carried along one axis after the other.
//
// The twin of transport.py and engine.transport, bit for bit. A cell computes what crosses its lower and its upper
// face, each face therefore twice: fluxes never travel through memory, of which a sweep moves 44 bytes a cell (four
// fields in and out, the Courant numbers in and a place).
//
// Defined by the compiler's command line (engine.mass_effect_on_device): THREADS in a CTA, FIELDS that are carried
// (tumor, white matter, gray matter, CSF), COURANT.

// Cells that matter, and everything that is carried on them; outside `places` fields are 0. In shared memory.
struct Freight {
    int sx, sy, cells, count;
    const int* places;    // (count,) flat, ascending
    float *here, *there;  // (FIELDS, cells) each
    float* shift;         // (3, cells) move of the lower faces [cells], 0 on closed ones
};

// What the lower face of cell k lets through, Courant number nu; c >= 0.
__device__ inline float cross(const float* c, const float* nu, int k, int s) {
    const float n = nu[k];
    const float from = n > 0.0f ? c[k - s] : c[k];
    if (n == 0.0f || from == 0.0f) return 0.0f;
    const float rise = c[k] - c[k - s];
    const float next = n > 0.0f ? c[k - s] - c[k - 2 * s] : c[k + s] - c[k];
    const bool same = (rise > 0.0f && next > 0.0f) || (rise < 0.0f && next < 0.0f);
    const float a = n > 0.0f ? next : rise, b = n > 0.0f ? rise : next;
    const float slope = same ? (a + a) * (b / (a + b)) : 0.0f;
    const float value = n > 0.0f ? (from + 0.5f * (1.0f - n) * slope) * (1.0f - 0.5f * (n - nu[k - s]))
                                 : (from - 0.5f * (1.0f + n) * slope) * (1.0f - 0.5f * (nu[k + s] - n));
    return n * (value > 0.0f ? value : 0.0f);
}

// Carry all fields along one axis, from `here` to `there`, which change places.
__device__ __noinline__ void sweep(Freight& shared, int axis) {
    const Freight load = shared;
    const int stride = axis == 0 ? load.sx : axis == 1 ? load.sy : 1;
    const float* const nu = load.shift + static_cast<long long>(axis) * load.cells;
    for (int n = threadIdx.x; n < load.count; n += THREADS) {
        const int k = load.places[n];
        for (int field = 0; field < FIELDS; ++field) {
            const float* const c = load.here + static_cast<long long>(field) * load.cells;
            const float enters = cross(c, nu, k, stride), leaves = cross(c, nu, k + stride, stride);
            load.there[static_cast<long long>(field) * load.cells + k] = c[k] + (enters - leaves);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        shared.here = load.there;
        shared.there = load.here;
    }
    __syncthreads();
}

// Carry all fields by `shift`, whose largest entry is `furthest`, in as many sub-steps as the bound asks for;
// `substeps` counts them. `shift` is cut to a sub-step's.
__device__ void move(Freight& load, double furthest, int& substeps) {
    const int count = static_cast<int>(ceil(furthest / COURANT));
    for (int n = threadIdx.x; n < load.count; n += THREADS) {
        const int k = load.places[n];
        for (int axis = 0; axis < 3; ++axis) {
            if (count) load.shift[static_cast<long long>(axis) * load.cells + k] /= static_cast<float>(count);
        }
    }
    __syncthreads();
    for (int step = 0; step < count; ++step) {
        const bool forward = substeps++ % 2 == 0;
        for (int n = 0; n < 3; ++n) sweep(load, forward ? n : 2 - n);
    }
}

// A CUDA kernel on the host: every CTA is a thread, every CUDA thread a fiber of it.
//
// Fibers of a CTA change places at barriers and, now and then, at atomics, each time in another random order, so that
// a missing barrier or a result that depends on order shows. Threads of a CTA that wait at different barriers, or
// return while others wait, are an error. Built with -fsanitize=thread, fibers count as threads.
//
// Compile with -DSOURCE='"kernel.cu"' -DKERNEL=name and what the kernel itself wants defined.

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __noinline__
#define __shared__ static thread_local
#define __syncthreads() host::wait(__LINE__)

struct Index {
    unsigned int x;
};
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

namespace host {

constexpr size_t STACK = 1 << 16;

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool begun = false;
    std::unique_ptr<char[]> stack{new char[STACK]};
    unsigned int index = 0;
    int line = 0;  // of the barrier where it waits; 0: it does not
    bool finished = false;
    void* sanitizer = nullptr;
};

struct Cta {
    ucontext_t scheduler;
    jmp_buf place;
    unsigned int threads;
    Fiber** order;
    Fiber* running = nullptr;
    unsigned int random;
    void (*kernel)(void**);
    void** arguments;
    void* sanitizer = nullptr;
    char barriers[2], ended;  // addresses for the sanitizer: of this barrier and the next, of the kernel's end
    int passed = 0;
};

static thread_local Cta* cta;

// The sanitizer is to see the kernel's accesses, and of the host's only that a barrier orders them.
#ifdef __SANITIZE_THREAD__
#define UNSEEN __attribute__((no_sanitize("thread")))
UNSEEN static void* new_fiber() { return __tsan_create_fiber(0); }
UNSEEN static void* this_fiber() { return __tsan_get_current_fiber(); }
UNSEEN static void tell_switch(void* to) { __tsan_switch_to_fiber(to, __tsan_switch_to_fiber_no_sync); }
UNSEEN static void tell_arrival(char* barrier) { __tsan_release(barrier); }
UNSEEN static void tell_departure(char* barrier) { __tsan_acquire(barrier); }
#else
#define UNSEEN
static void* new_fiber() { return nullptr; }
static void* this_fiber() { return nullptr; }
static void tell_switch(void*) {}
static void tell_arrival(char*) {}
static void tell_departure(char*) {}
#endif

UNSEEN static unsigned int draw(unsigned int below) {
    cta->random = cta->random * 1664525u + 1013904223u;
    return (cta->random >> 8) % below;
}

// swapcontext asks the kernel each time, jumps do not; the sanitizer follows only the former.
#ifdef __SANITIZE_THREAD__
UNSEEN static void enter(Fiber* fiber) { swapcontext(&cta->scheduler, &fiber->context); }
UNSEEN static void leave_to_scheduler(Fiber* self) { swapcontext(&self->context, &cta->scheduler); }
#else
__attribute__((noinline)) static void enter(Fiber* fiber) {
    if (_setjmp(cta->place)) return;
    if (fiber->begun) _longjmp(fiber->place, 1);
    fiber->begun = true;
    setcontext(&fiber->context);
}
__attribute__((noinline)) static void leave_to_scheduler(Fiber* self) {
    if (!_setjmp(self->place)) _longjmp(cta->place, 1);
}
#endif

UNSEEN static void leave() {
    tell_switch(cta->sanitizer);
    leave_to_scheduler(cta->running);
}

UNSEEN static void wait(int line) {
    char* const barrier = &cta->barriers[cta->passed % 2];
    tell_arrival(barrier);
    cta->running->line = line;
    leave();
    tell_departure(barrier);
}

UNSEEN static void maybe_leave() {
    if (draw(8) == 0) leave();
}

UNSEEN static void run_fiber() {
    cta->kernel(cta->arguments);
    tell_arrival(&cta->ended);
    cta->running->finished = true;
    leave();
}

// Let every fiber that can run do so once, in random order; returns how many still can.
UNSEEN static unsigned int run_round() {
    unsigned int ready = 0;
    for (unsigned int n = 0; n < cta->threads; ++n) {
        const unsigned int other = n + draw(cta->threads - n);
        Fiber* const fiber = cta->order[other];
        cta->order[other] = cta->order[n];
        cta->order[n] = fiber;
        if (fiber->finished || fiber->line) continue;
        cta->running = fiber;
        threadIdx.x = fiber->index;
        tell_switch(fiber->sanitizer);
        enter(fiber);
        ready += !fiber->finished && !fiber->line;
    }
    return ready;
}

// Run all fibers to their end; false if they disagree about a barrier.
UNSEEN static bool run_cta() {
    for (;;) {
        if (run_round()) continue;
        const Fiber* const first = cta->order[0];
        for (unsigned int n = 0; n < cta->threads; ++n) {
            if (cta->order[n]->line != first->line || cta->order[n]->finished != first->finished) return false;
        }
        if (first->finished) {
            tell_departure(&cta->ended);
            return true;
        }
        for (unsigned int n = 0; n < cta->threads; ++n) cta->order[n]->line = 0;
        cta->passed += 1;
    }
}

template <class... A, size_t... N>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<N...>) {
    kernel(*static_cast<A*>(arguments[N])...);
}

template <class... A>
void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
}

}  // namespace host

template <class T>
T atomicAdd(T* place, T value) {
    host::maybe_leave();
    return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}

template <class T>
T atomicOr(T* place, T value) {
    host::maybe_leave();
    return __atomic_fetch_or(place, value, __ATOMIC_RELAXED);
}

inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned int bits) { return __builtin_ffs(static_cast<int>(bits)); }

#include SOURCE

static bool run_one(unsigned int index, unsigned int ctas, unsigned int threads, unsigned int seed, void** arguments) {
    host::Cta cta;
    std::vector<host::Fiber> fibers(threads);
    std::vector<host::Fiber*> order(threads);
    host::cta = &cta;
    cta.threads = threads;
    cta.order = order.data();
    cta.random = seed + 1000 * index;
    cta.kernel = [](void** values) { host::call(KERNEL, values); };
    cta.arguments = arguments;
    cta.sanitizer = host::this_fiber();
    blockIdx.x = index;
    blockDim.x = threads;
    gridDim.x = ctas;
    for (unsigned int t = 0; t < threads; ++t) {
        host::Fiber* const fiber = order[t] = &fibers[t];
        fiber->index = t;
        fiber->sanitizer = host::new_fiber();
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.get();
        fiber->context.uc_stack.ss_size = host::STACK;
        makecontext(&fiber->context, host::run_fiber, 0);
    }
    return host::run_cta();
}

// Launch like cuLaunchKernel; returns how many CTAs had threads that disagreed about a barrier.
extern "C" int launch(unsigned int ctas, unsigned int threads, unsigned int seed, void** arguments) {
    std::vector<std::thread> pool;
    std::vector<char> failed(ctas);
    for (unsigned int n = 0; n < ctas; ++n) {
        pool.emplace_back([=, &failed] { failed[n] = !run_one(n, ctas, threads, seed, arguments); });
    }
    for (std::thread& thread : pool) thread.join();
    int count = 0;
    for (const char one : failed) count += one;
    return count;
}

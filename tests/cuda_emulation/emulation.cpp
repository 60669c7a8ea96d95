// Runs the blocks of a kernel one after the other and the threads of a block as fibers, in a shuffled order.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {

void* dynamic_shared;

namespace {

constexpr size_t kStackSize = 256 << 10;
constexpr unsigned kBlockBarrier = 0;

enum class State { kReady, kAtBarrier, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackSize]};
  uint3 index;
  State state;
  unsigned barrier;  // kBlockBarrier or the mask of a warp's
};

std::mutex one_launch_at_a_time;
std::vector<std::unique_ptr<Fiber>> fibers;
ucontext_t scheduler;
int current;
const std::function<void()>* kernel;
std::vector<uint64_t> given;  // [thread], by `exchange`
std::mt19937 random_order{20210619};

[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "CUDA emulation: %s in block (%u, %u, %u)\n", why, blockIdx.x, blockIdx.y, blockIdx.z);
  std::abort();
}

void enter() {
  (*kernel)();
  fibers[current]->state = State::kDone;
  swapcontext(&fibers[current]->context, &scheduler);
}

void wait(unsigned barrier) {
  Fiber& fiber = *fibers[current];
  fiber.state = State::kAtBarrier;
  fiber.barrier = barrier;
  swapcontext(&fiber.context, &scheduler);
}

void start(int number, int num_threads) {
  while (static_cast<int>(fibers.size()) < num_threads) fibers.push_back(std::make_unique<Fiber>());
  Fiber& fiber = *fibers[number];
  const unsigned n = static_cast<unsigned>(number);
  fiber.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / (blockDim.x * blockDim.y)};
  fiber.state = State::kReady;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackSize;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
}

// Lets those go on whose barrier all have reached that are expected there: for a warp the live threads of the mask, for
// the block all live threads. Returns whether there were any.
bool release(int num_threads) {
  bool any = false;
  int live = 0, waiting = 0;
  for (int i = 0; i < num_threads; ++i) {
    live += fibers[i]->state != State::kDone;
    waiting += fibers[i]->state == State::kAtBarrier && fibers[i]->barrier == kBlockBarrier;
  }
  for (int i = 0; i < num_threads; ++i) {
    Fiber& fiber = *fibers[i];
    if (fiber.state != State::kAtBarrier) continue;
    if (fiber.barrier == kBlockBarrier) {
      if (waiting == live) fiber.state = State::kReady, any = true;
      continue;
    }
    const int warp = i / 32 * 32;
    const unsigned mask = fiber.barrier;
    bool all = mask >> (i - warp) & 1u;
    if (!all) stop("a thread waits at a warp barrier whose mask it is not in");
    for (int j = 0; j < 32 && warp + j < num_threads; ++j) {
      const Fiber& other = *fibers[warp + j];
      if (mask >> j & 1u && other.state != State::kDone)
        all &= other.state == State::kAtBarrier && other.barrier == mask;
    }
    if (!all) continue;
    for (int j = 0; j < 32 && warp + j < num_threads; ++j)
      if (mask >> j & 1u && fibers[warp + j]->state == State::kAtBarrier) fibers[warp + j]->state = State::kReady;
    any = true;
  }
  return any;
}

void run_block(int num_threads, size_t shared_bytes, std::vector<unsigned char>& shared) {
  shared.assign(shared_bytes + 16, 0xa5);  // what is read before it is written shows
  dynamic_shared = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(shared.data()) + 15) / 16 * 16);
  given.assign((num_threads + 31) / 32 * 32, 0xa5a5a5a5a5a5a5a5u);
  std::vector<int> order(num_threads);
  std::iota(order.begin(), order.end(), 0);
  for (int i = 0; i < num_threads; ++i) start(i, num_threads);
  for (bool alive = true; alive;) {
    std::shuffle(order.begin(), order.end(), random_order);
    alive = false;
    for (const int i : order) {
      if (fibers[i]->state == State::kReady) {
        current = i;
        threadIdx = fibers[i]->index;
        swapcontext(&scheduler, &fibers[i]->context);
      }
      alive |= fibers[i]->state != State::kDone;
    }
    if (alive && !release(num_threads)) stop("threads wait at different barriers");
  }
}

}  // namespace

int lane() { return current % 32; }

void sync_block() { wait(kBlockBarrier); }

void sync_warp(unsigned mask) {
  if (mask == 0) stop("an empty mask");
  wait(mask);
}

const uint64_t* exchange(unsigned mask, uint64_t value) {
  given[current] = value;
  const size_t warp = static_cast<size_t>(current) / 32 * 32;
  sync_warp(mask);
  return given.data() + warp;
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (threads < 1 || threads > 1024 || blocks < 1 || grid.y > 65535 || grid.z > 65535)
    stop("a launch that no GPU takes");
  if (shared_bytes > (99u << 10)) stop("more shared memory than every GPU has");
  blockDim = block;
  gridDim = grid;
  kernel = &body;
  std::vector<unsigned char> shared;
  for (uint64_t b = 0; b < blocks; ++b) {
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / (uint64_t{grid.x} * grid.y))};
    run_block(static_cast<int>(threads), shared_bytes, shared);
  }
}

}  // namespace emulation

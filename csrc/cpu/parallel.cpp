#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define LPS_HAS_FORK 1
#endif

#include "api/status.h"

namespace lps {
namespace {

// The pieces of one parallel_for; the caller and any idle worker take from it until none is left.
struct Job {
  const std::function<void(int64_t, int64_t)>* body;
  int64_t count, piece, num_pieces;
  std::atomic<int64_t> next{0}, finished{0};
  std::mutex mutex;
  std::condition_variable done;

  void work() {
    for (int64_t i; (i = next.fetch_add(1)) < num_pieces;) {
      (*body)(i* piece, std::min(count, (i + 1) * piece));
      if (finished.fetch_add(1) + 1 == num_pieces) {
        std::lock_guard<std::mutex> lock(mutex);
        done.notify_all();
      }
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    done.wait(lock, [&] { return finished.load() == num_pieces; });
  }
};

thread_local bool inside_job = false;

class Pool {
 public:
  void run(const std::shared_ptr<Job>& job, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(workers_.size()) < helpers) workers_.emplace_back([this] { loop(); });
      for (int i = 0; i < helpers; ++i) queue_.push_back(job);
    }
    if (helpers == 1)
      wake_.notify_one();
    else
      wake_.notify_all();
    inside_job = true;
    job->work();
    inside_job = false;
    job->wait();
  }

 private:
  void loop() {
    inside_job = true;
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return !queue_.empty(); });
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      job->work();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<std::thread> workers_;
};

std::atomic<int> thread_limit{0};

// Leaked on purpose: a worker may outlive static destruction. Threads do not survive fork, so a child (a data
// loader's worker) starts with a pool of its own.
Pool* pool = nullptr;
std::mutex pool_mutex;

Pool& the_pool() {
  std::lock_guard<std::mutex> lock(pool_mutex);
  if (pool == nullptr) {
    pool = new Pool;
#ifdef LPS_HAS_FORK
    static const int registered = pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                                                 [] {
                                                   pool = nullptr;
                                                   pool_mutex.unlock();
                                                 });
    (void)registered;
#endif
  }
  return *pool;
}

}  // namespace

int num_threads() {
  const int limit = thread_limit.load();
  return limit > 0 ? limit : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void set_num_threads(int count) { thread_limit = count; }

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  const int64_t most = std::max<int64_t>(1, count / std::max<int64_t>(1, grain));
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), most));
  if (threads == 1 || inside_job) return body(0, count);
  // A few pieces a thread, so that an uneven load evens out.
  auto job = std::make_shared<Job>();
  job->body = &body;
  job->count = count;
  job->piece = (count + std::min<int64_t>(most, threads * 4) - 1) / std::min<int64_t>(most, threads * 4);
  job->num_pieces = (count + job->piece - 1) / job->piece;
  the_pool().run(job, threads - 1);
}

}  // namespace lps

LpsStatus lps_set_num_threads(int32_t num_threads) {
  if (num_threads < 1) return lps::invalid("set_num_threads", "num_threads", "at least 1", num_threads);
  lps::set_num_threads(num_threads);
  return LPS_OK;
}

int32_t lps_num_threads(void) { return lps::num_threads(); }

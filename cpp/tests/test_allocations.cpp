// A program of its own: it replaces operator new, which would blind the sanitizers.
#include <cstdlib>
#include <new>

#include "check.hpp"
#include "fakes.hpp"
#include "onnxruntime.hpp"

using namespace linglos;
using namespace linglos::testing;

// Every allocation of this thread is counted, except while a backend runs: what it allocates is its own affair.
namespace {
thread_local std::size_t allocations = 0;
thread_local bool in_backend = false;

void* count_and_allocate(std::size_t size) {
  if (!in_backend) ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return count_and_allocate(size); }
void* operator new[](std::size_t size) { return count_and_allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

TEST(our_side_of_a_run_allocates_nothing_after_warm_up) {
  detail::Pool pool(std::make_unique<FakeEngine>(3 * 6 * 8, 4, false), small(), InputKind::tensor, 2);
  const Images images(11);
  Outputs outputs;
  for (int i = 0; i < 4; ++i) pool.run(images.views.data(), 11, outputs);
  const std::size_t before = allocations;
  for (int i = 0; i < 10; ++i) pool.run(images.views.data(), 11, outputs);
  CHECK(allocations == before);
}

namespace {
decltype(OrtApi::Run) real_run;
OrtStatus* ORT_API_CALL watched_run(OrtSession* session, const OrtRunOptions* options, const char* const* inputs,
                                    const OrtValue* const* in, size_t count, const char* const* outputs, size_t n,
                                    OrtValue** out) noexcept {
  in_backend = true;
  OrtStatus* status = real_run(session, options, inputs, in, count, outputs, n, out);
  in_backend = false;
  return status;
}
}  // namespace

TEST(a_run_with_onnx_runtime_allocates_only_inside_onnx_runtime) {
  const Bundle bundle = open("digits");
  const GraphEntry& graph = bundle.manifest().graphs.front();
  OrtApi api = *detail::onnxruntime_api();
  real_run = api.Run;
  api.Run = watched_run;
  const detail::ModelFile model{graph.file,    bundle.read(graph.file), graph.input, bundle.manifest().preprocessing,
                                graph.inputs,  graph.outputs,           {},          {}};
  detail::Pool pool(detail::open_onnxruntime(model, threads(2), false, &api), model.preprocessing, graph.input, 2);
  const Images images(11);
  Outputs outputs;
  for (int i = 0; i < 4; ++i) pool.run(images.views.data(), 11, outputs);
  const std::size_t before = allocations;
  for (int i = 0; i < 5; ++i) pool.run(images.views.data(), 11, outputs);
  CHECK(allocations == before);
  outputs.emplace_back();  // the counter does count
  pool.run(images.views.data(), 12 - 1, outputs);
  CHECK(allocations > before);
}

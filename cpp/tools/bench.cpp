// linglos-bench: how long does a run take? The same statistics as 'linglos-deploy profile', under the same names.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <numeric>
#include <random>

#include "command_line.hpp"

using namespace linglos;
using namespace linglos::tools;

namespace {

constexpr const char* kHelp =
    "usage: linglos-bench BUNDLE [options]\n\n"
    "Time the model on prepared input, as 'linglos-deploy profile' does, then the whole way from pixels.\n\n"
    "  --batch N                             images a run (1)\n"
    "  --imgsz HEIGHT,WIDTH                  size of the images before preprocessing (480,640)\n"
    "  --rounds N                            rounds of measurement (8)\n"
    "  --runs N                              at least as many timed runs (48)\n"
    "  --seconds N                           at least as long (2)\n";

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Plan {
  std::size_t batch = 1;
  int height = 480, width = 640;
  int rounds = 8, runs = 48;
  double seconds = 2.0;
  int warmup_runs = 3;
  double warmup_seconds = 0.3;
};

/// Percentile by linear interpolation between order statistics, as NumPy's default.
double percentile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

struct Latency {
  std::size_t runs = 0;
  double mean = 0, minimum = 0, p50 = 0, p90 = 0, p99 = 0, maximum = 0, variation = 0;
  std::vector<double> round_medians;
};

template <typename Run>
Latency measure(const Plan& plan, Run&& run) {
  const auto warmup = Clock::now();
  for (int i = 0; i < plan.warmup_runs || milliseconds_since(warmup) < 1e3 * plan.warmup_seconds; ++i) run();
  std::vector<double> all;
  Latency found;
  for (int round = 0; round < plan.rounds; ++round) {
    std::vector<double> times;
    const auto start = Clock::now();
    const auto enough = static_cast<std::size_t>((plan.runs + plan.rounds - 1) / plan.rounds);
    while (times.size() < enough || milliseconds_since(start) < 1e3 * plan.seconds / plan.rounds) {
      const auto begin = Clock::now();
      run();
      times.push_back(milliseconds_since(begin));
    }
    all.insert(all.end(), times.begin(), times.end());
    std::sort(times.begin(), times.end());
    found.round_medians.push_back(percentile(times, 0.5));
  }
  std::sort(all.begin(), all.end());
  found.runs = all.size();
  found.mean = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  double squares = 0.0;
  for (const double value : all) squares += (value - found.mean) * (value - found.mean);
  found.variation = std::sqrt(squares / static_cast<double>(all.size())) / found.mean;
  found.minimum = all.front();
  found.p50 = percentile(all, 0.50);
  found.p90 = percentile(all, 0.90);
  found.p99 = percentile(all, 0.99);
  found.maximum = all.back();
  return found;
}

std::string json(const Latency& latency) {
  using linglos::tools::json;
  std::string medians;
  for (const double value : latency.round_medians) medians += (medians.empty() ? "" : ", ") + json(value);
  return "{\"runs\": " + std::to_string(latency.runs) + ", \"mean\": " + json(latency.mean) +
         ", \"minimum\": " + json(latency.minimum) + ", \"p50\": " + json(latency.p50) + ", \"p90\": " +
         json(latency.p90) + ", \"p99\": " + json(latency.p99) + ", \"maximum\": " + json(latency.maximum) +
         ", \"variation\": " + json(latency.variation) + ", \"round_medians\": [" + medians + "]}";
}

void print_text(const char* what, const Latency& latency, std::size_t batch) {
  std::printf("%-12s p50 %8.3f ms  p90 %8.3f ms  p99 %8.3f ms  min %8.3f ms  %8.1f images/s  (%zu runs)\n", what,
              latency.p50, latency.p90, latency.p99, latency.minimum, 1e3 * static_cast<double>(batch) / latency.mean,
              latency.runs);
}

int bench(Arguments arguments) {
  SessionOptions options;
  Plan plan;
  bool as_json = false;
  std::string path;
  while (!arguments.empty()) {
    const std::string word = arguments.take();
    const auto number = [&] { return std::max(whole_number(word, arguments.value(word)), 1); };
    if (word == "-h" || word == "--help") return std::cout << kHelp << kSessionHelp, kPassed;
    if (word == "--json") as_json = true;
    else if (word == "--batch") plan.batch = static_cast<std::size_t>(number());
    else if (word == "--rounds") plan.rounds = number();
    else if (word == "--runs") plan.runs = number();
    else if (word == "--seconds") plan.seconds = whole_number(word, arguments.value(word));
    else if (word == "--imgsz") {
      const std::string text = arguments.value(word);
      const auto comma = text.find(',');
      plan.height = std::max(whole_number(word, text.substr(0, comma)), 1);
      plan.width = comma == std::string::npos ? plan.height : std::max(whole_number(word, text.substr(comma + 1)), 1);
      if (plan.height > 32768 || plan.width > 32768) throw UsageError("--imgsz takes at most 32768 pixels a side.");
    } else if (session_option(word, arguments, options)) continue;
    else if (!path.empty() || word[0] == '-') throw UsageError("There is no option '" + word + "'; see --help.");
    else path = word;
  }
  if (path.empty()) throw UsageError("linglos-bench needs a bundle; see --help.");
  if (plan.batch > 65536) throw UsageError("--batch takes at most 65536.");
  options.max_batch = static_cast<int>(plan.batch);

  const auto start = Clock::now();
  Session session(Bundle::open(path), options);
  const double open = milliseconds_since(start);

  std::mt19937 random(0);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(plan.height) * static_cast<std::size_t>(plan.width) * 3);
  for (auto& value : pixels) value = static_cast<std::uint8_t>(random());
  const std::vector<ImageView> images(plan.batch, ImageView{pixels.data(), plan.width, plan.height});
  Preprocessor preprocessor(session.manifest().preprocessing);
  const bool tensor = session.input() == InputKind::tensor;
  std::vector<float> input(plan.batch * preprocessor.size());
  for (std::size_t i = 0; i < plan.batch; ++i) {
    if (tensor) preprocessor.tensor(images[i], input.data() + i * preprocessor.size());
    else preprocessor.pixels(images[i], reinterpret_cast<std::uint8_t*>(input.data()) + i * preprocessor.size());
  }

  Outputs outputs;
  const auto first = Clock::now();
  session.run_input(input.data(), plan.batch, outputs);
  const double first_run = milliseconds_since(first);
  const Latency model = measure(plan, [&] { session.run_input(input.data(), plan.batch, outputs); });
  const Latency whole = measure(plan, [&] { session.run(images, outputs); });

  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  if (as_json) {
    using linglos::tools::json;
    const Preprocessing& spec = session.manifest().preprocessing;
    std::cout << "{\"label\": " << json("linglos-bench " + session.file()) << ", \"backend\": "
              << json(session.backend()) << ", \"artifact\": " << json(session.file()) << ", \"digest\": "
              << json(session.manifest().files.at(session.file()).sha256) << ", \"precision\": "
              << json(session.precision()) << ", \"device\": " << json(session.device()) << ", \"batch\": " << plan.batch
              << ", \"image_size\": [" << spec.height << ", " << spec.width << "], \"threads\": " << options.threads
              << ", \"outcome\": \"measured\", \"reason\": " << json(session.reason()) << ", \"latency\": " << json(model)
              << ", \"throughput\": " << json(1e3 * static_cast<double>(plan.batch) / model.mean)
              << ", \"cold_start\": {\"open\": " << json(open) << ", \"first_run\": " << json(first_run)
              << "}, \"peak_rss_bytes\": " << usage.ru_maxrss * 1024 << ", \"from_pixels\": {\"image_size\": ["
              << plan.height << ", " << plan.width << "], \"latency\": " << json(whole) << "}}\n";
  } else {
    std::cout << session.reason() << std::endl;
    print_text("model", model, plan.batch);
    print_text("from pixels", whole, plan.batch);
  }
  return kPassed;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("linglos-bench", [&] { return bench(Arguments(argc, argv)); });
}

// TensorRT and TensorRT-RTX, loaded when first needed. Nothing is deserialized before the release of the library, the
// device, the plan's first bytes, its release and its compute capability are known to fit.
#include "tensorrt.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "files.hpp"
#include "library.hpp"

namespace linglos::detail {
namespace {

/// The two products: one builder and one runtime each, with plans that the other does not take.
struct Product {
  BackendKind kind;
  const char* name;   // in manifests
  const char* title;  // in sentences
  const char* variable;
  const char* magic;  // first bytes of a plan
};
constexpr Product kStandard = {BackendKind::tensorrt, "tensorrt", "TensorRT", "LINGLOS_TENSORRT_LIBRARY", "ftrt"};
constexpr Product kRtx = {BackendKind::tensorrt_rtx, "tensorrt-rtx", "TensorRT-RTX", "LINGLOS_TENSORRT_RTX_LIBRARY",
                          "vtrt"};

const Product& product(BackendKind kind) { return kind == BackendKind::tensorrt ? kStandard : kRtx; }

/// Release 11 and TensorRT-RTX since 1.5 share the tables of functions; TensorRT-RTX 1.4 has those of release 10.
constexpr int kRtxMajor = 1, kRtxMinor = 5;

std::vector<std::string> file_names(const Product& product) {
  if (product.kind == BackendKind::tensorrt_rtx) return {"libtensorrt_rtx.so.1", "libtensorrt_rtx.so"};
  std::vector<std::string> names;  // the lean runtime takes version-compatible plans only
#if LINGLOS_HAS_TENSORRT_11
  names.insert(names.end(), {"libnvinfer.so.11", "libnvinfer_lean.so.11"});
#endif
#if LINGLOS_HAS_TENSORRT_10
  names.insert(names.end(), {"libnvinfer.so.10", "libnvinfer_lean.so.10"});
#endif
  return names;
}

constexpr const char* kReleases =
#if LINGLOS_HAS_TENSORRT_10 && LINGLOS_HAS_TENSORRT_11
    "10 and 11";
#elif LINGLOS_HAS_TENSORRT_10
    "10";
#else
    "11";
#endif

/// What can open plans with a library of this release; null if nothing in this build can.
OpenPlan* opener(const Product& product, int major, int minor) {
#if LINGLOS_HAS_TENSORRT_10
  if (product.kind == BackendKind::tensorrt && major == 10) return tensorrt_10::open_plan;
#endif
#if LINGLOS_HAS_TENSORRT_11
  if (product.kind == BackendKind::tensorrt && major == 11) return tensorrt_11::open_plan;
  if (product.kind == BackendKind::tensorrt_rtx && major == kRtxMajor && minor >= kRtxMinor)
    return tensorrt_11::open_plan;
#endif
  (void)minor;
  return nullptr;
}

struct Loaded {
  TensorRtLibrary library;
  OpenPlan* open;
};

Loaded load(const Product& product) {
  if (product.kind == BackendKind::tensorrt_rtx && LINGLOS_HAS_TENSORRT_11 == 0)
    throw BackendError("built without TensorRT-RTX, which needs the headers of TensorRT 11");
  const Library file = Library::open(product.kind, product.title, product.variable, file_names(product));
  using Number = std::int32_t();
  const int major = file.get<Number>("getInferLibMajorVersion")(), minor = file.get<Number>("getInferLibMinorVersion")();
  const int patch = file.get<Number>("getInferLibPatchVersion")();
  const std::string version =
      std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
  OpenPlan* open = opener(product, major, minor);
  if (open == nullptr) {
    const std::string found = std::string(product.title) + " " + version + " in " + in_quotes(file.path());
    if (product.kind == BackendKind::tensorrt_rtx)
      throw BackendError(found + " cannot be used: 1." + std::to_string(kRtxMinor) + " or a later 1.x is needed.");
    throw BackendError(found + " cannot be used: this build knows TensorRT " + kReleases +
                       ". Install one of these, or configure with headers of release " + std::to_string(major) + ".");
  }
  return {{product.title, version, file.get<Number>("getInferLibVersion")(),
           file.get<void*(void*, std::int32_t)>("createInferRuntime_INTERNAL")},
          open};
}

/// The library that was loaded first; where loading throws, the next call tries again.
const Loaded& loaded(const Product& product) {
  if (product.kind == BackendKind::tensorrt) {
    static const Loaded standard = load(kStandard);
    return standard;
  }
  static const Loaded rtx = load(kRtx);
  return rtx;
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> found;
  bool inside = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) found.push_back(0);
    if (digit && found.back() < 1000000) found.back() = found.back() * 10 + (c - '0');
    inside = digit;
  }
  return found;
}

/// `wanted` is as the engine's sidecar describes it: "8.6, 8.9" or "8.0 or later".
bool capability_fits(const std::string& wanted, const std::string& here) {
  const auto machine = numbers(here);
  if (const auto later = wanted.find(" or later"); later != std::string::npos)
    return machine >= numbers(wanted.substr(0, later));
  for (std::size_t begin = 0; begin <= wanted.size();) {
    const std::size_t end = std::min(wanted.find(',', begin), wanted.size());
    if (numbers(wanted.substr(begin, end - begin)) == machine) return true;
    begin = end + 1;
  }
  return false;
}

/// A plan loads in the release that built it: the first three numbers decide, a build number behind them does not.
bool version_fits(const std::string& built, const std::string& here) {
  auto a = numbers(built);
  auto b = numbers(here);
  const std::size_t count = std::min<std::size_t>({a.size(), b.size(), 3});
  return count > 0 && std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(count), b.begin());
}

}  // namespace

BackendInfo tensorrt_info(BackendKind kind) {
  const Product& product = detail::product(kind);
  BackendInfo info{product.name, "", false, ""};
  try {
    info.version = loaded(product).library.version;
    std::string reason;
    const int count = cuda_device_count(reason);
    info.usable = count > 0;
    info.detail = count > 0 ? std::string("runs ") + product.title + " engines on " + std::to_string(count) +
                                  " CUDA device(s)"
                            : "no CUDA device: " + reason;
  } catch (const Error& error) {
    info.detail = error.what();
  }
  return info;
}

void require_tensorrt(BackendKind kind, const EngineEntry& entry, std::uint64_t bytes, int device) {
  const Product& product = detail::product(kind);
  const TensorRtLibrary& library = loaded(product).library;
  std::string reason;
  const int count = cuda_device_count(reason);  // with no driver, TensorRT itself may crash
  if (count == 0) throw DeviceError("no CUDA device: " + reason);
  if (device >= count)
    throw DeviceError("no CUDA device " + std::to_string(device) + ", only " + std::to_string(count));
  const auto wanted = [&](const char* key) {
    const auto found = entry.requirements.find(key);
    return found == entry.requirements.end() ? std::string() : found->second;
  };
  const std::string rebuild = std::string("; build it again with 'linglos-deploy build --engine ") + product.name + "'";
  if (const auto version = wanted("version"); !version.empty() && !version_fits(version, library.version))
    throw DeviceError(std::string("built with ") + product.title + " " + version + ", here is " + library.version +
                      rebuild);
  const std::string here = cuda_compute_capability(device);
  if (const auto capability = wanted("compute_capability");
      !capability.empty() && !capability_fits(capability, here))
    throw DeviceError("built for compute capability " + capability + ", device " + std::to_string(device) + " has " +
                      here + rebuild);
  const std::size_t free = CudaDevice(device).free_bytes();
  if (free <= bytes)
    throw DeviceError("the engine needs more than " + std::to_string(bytes) + " bytes, device " +
                      std::to_string(device) + " has " + std::to_string(free) + " free");
}

std::unique_ptr<Engine> open_tensorrt(BackendKind kind, const ModelFile& file, const SessionOptions& options) {
  const Product& product = detail::product(kind);
  const Loaded& found = loaded(product);
  if (file.data.size() < 4 || std::memcmp(file.data.data(), product.magic, 4) != 0)
    throw BundleError(in_quotes(file.file) + " does not start like a plan of " + product.title + ".");
  return found.open(found.library, std::make_shared<CudaDevice>(options.device_index), file, options);
}

}  // namespace linglos::detail

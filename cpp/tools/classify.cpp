// linglos-classify: what is on these images?
#include <iostream>

#include "command_line.hpp"
#include "decode.hpp"

using namespace linglos;
using namespace linglos::tools;

namespace {

constexpr const char* kHelp =
    "usage: linglos-classify BUNDLE IMAGE... [options]\n\n"
    "Classify PNG, JPEG, BMP or PNM images with the model of a bundle.\n\n"
    "  --top K                               how many classes to show (5)\n";

int classify(Arguments arguments) {
  SessionOptions options;
  std::size_t top = 5;
  bool as_json = false;
  std::vector<std::string> paths;
  while (!arguments.empty()) {
    const std::string word = arguments.take();
    if (word == "-h" || word == "--help") return std::cout << kHelp << kSessionHelp, kPassed;
    if (word == "--json") as_json = true;
    else if (word == "--top") top = static_cast<std::size_t>(whole_number(word, arguments.value(word)));
    else if (session_option(word, arguments, options)) continue;
    else if (word.size() > 1 && word[0] == '-') throw UsageError("There is no option '" + word + "'.");
    else paths.push_back(word);
  }
  if (paths.size() < 2) throw UsageError("linglos-classify needs a bundle and at least one image; see --help.");
  options.max_batch = 1;
  Session session(Bundle::open(paths.front()), options);
  std::cerr << session.reason() << '\n';
  for (std::size_t i = 1; i < paths.size(); ++i) {
    const Image image = decode_file(paths[i]);
    const auto predictions = session.classify(image.view(), top);
    if (as_json) {  // one object a line
      std::cout << "{\"image\": " << json(paths[i]) << ", \"predictions\": [";
      for (std::size_t k = 0; k < predictions.size(); ++k) {
        const Prediction& p = predictions[k];
        std::cout << (k == 0 ? "" : ", ") << "{\"index\": " << p.index << ", \"label\": "
                  << (p.label.empty() ? "null" : json(p.label)) << ", \"probability\": " << json(p.probability)
                  << ", \"logit\": " << json(double{p.logit}) << "}";
      }
      std::cout << "]}\n";
    } else {
      std::cout << paths[i] << '\n';
      for (const Prediction& p : predictions) {
        char line[64];
        std::snprintf(line, sizeof line, "  %6.2f %%  %5d  ", 100.0 * p.probability, p.index);
        std::cout << line << p.label << '\n';
      }
    }
  }
  return kPassed;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("linglos-classify", [&] { return classify(Arguments(argc, argv)); });
}

// Prints what two releases must agree on for one object of the adapter to serve both.
#include <cstdio>

#include "tables.hpp"

int main() {
  using namespace nvinfer1;
  tables::visit_used([](const char* name, auto method) { std::printf("%s %zu\n", name, tables::slot(method)); });
  std::printf("Dims %zu %zu\n", sizeof(Dims), offsetof(Dims, d));
  std::printf("objects %zu %zu %zu\n", sizeof(IRuntime), sizeof(ICudaEngine), sizeof(IExecutionContext));
  std::printf("DataType %d %d\n", static_cast<int>(DataType::kFLOAT), static_cast<int>(DataType::kUINT8));
  std::printf("TensorIOMode %d %d\n", static_cast<int>(TensorIOMode::kINPUT), static_cast<int>(TensorIOMode::kOUTPUT));
  std::printf("kMAX %d\n", static_cast<int>(OptProfileSelector::kMAX));
  std::printf("kERROR %d\n", static_cast<int>(ILogger::Severity::kERROR));
}

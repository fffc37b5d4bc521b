"""What is known of ONNX: operators, axes, shapes and types, and the passes that edit a graph."""

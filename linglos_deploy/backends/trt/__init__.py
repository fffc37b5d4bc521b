"""What the TensorRT and TensorRT-RTX backends share: functions over whichever vendor module they are given."""

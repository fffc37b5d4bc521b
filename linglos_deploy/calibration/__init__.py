"""What was seen: image data, observers, one-pass collection, tables, thresholds."""

"""Images as model input: reading, labels, preprocessing and checks; one truth for Python, the graph and C++."""

"""Faults to plant into graphs: each a function from a graph to a graph, with the layer it sits in."""

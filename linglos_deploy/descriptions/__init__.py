"""How files and their contents look, as sections that every renderer takes: terminal, HTML and Markdown.

One file a kind of thing, one function from its value to sections; importing this package registers them. Reports of
checks and measurements describe themselves likewise in :mod:`linglos_deploy.reports.sections`.
"""

from linglos_deploy.descriptions import bundle, dla, engine, fusing, graph, inspection, plan, table, tensors

__all__ = ["bundle", "dla", "engine", "fusing", "graph", "inspection", "plan", "table", "tensors"]

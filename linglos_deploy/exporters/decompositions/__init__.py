"""Key-only attention in cheaper, equal forms: the algebra of each, the choice among them, the rewrite."""

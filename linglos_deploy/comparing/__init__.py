"""Is a new bundle or report worse than an old one? One file in ``comparers/`` for each kind of thing."""

"""One module for each kind of source, each a `SourceKind`; and what several of them read."""

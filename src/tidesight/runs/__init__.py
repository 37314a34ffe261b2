"""A run on disk: one format for what a fleet, a simulation or any URL did under load. Files only, no sockets."""

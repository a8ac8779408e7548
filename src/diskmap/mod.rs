//! The engine: an exact concurrent map over an append-only log with a tail in RAM.

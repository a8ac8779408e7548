//! Settings: one table of keys, units, ranges, defaults.

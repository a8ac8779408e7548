//! Every file access.

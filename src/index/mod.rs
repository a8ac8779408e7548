//! The index: 4096 shards of cuckoo filters whose slots carry a location.

//! What a process has once: disks and their writer threads, the memory budget, events.

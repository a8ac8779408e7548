/* blocktier: off-heap state for block assembly and validation.
 *
 * Made by cbindgen from src/ffi; `cargo test --test header` checks that it is current.
 *
 * Conventions
 *  - Handle first, then inputs, then outputs, last a nullable error record in caller memory.
 *  - A const handle may be used by any number of threads at once; a non-const one by one thread alone.
 *  - Outputs are written on success, or as a call's text says for BUFFER_TOO_SMALL and WOULD_BLOCK.
 *  - Length 0 never looks at the pointer. Every other pointer is checked for null unless called nullable,
 *    and for the alignment of what it points to.
 *  - No pointer is kept after a call returns. Nothing calls back. No signal handlers are installed.
 *  - The only memory handed out belongs to handles and lives until they are closed or freed.
 *  - After PANIC a handle is poisoned: every call returns POISONED, closing still works.
 */

#ifndef BLOCKTIER_H
#define BLOCKTIER_H



#include <stddef.h>
#include <stdint.h>

// Bytes of text in an error.
#define BLOCKTIER_ERROR_TEXT_BYTES 240

// Number of this ABI. It changes when a caller must change.
#define BLOCKTIER_ABI 1

// Bytes of a directory's path in its figures.
#define BLOCKTIER_PATH_BYTES 256

// Return WOULD_BLOCK instead of waiting for room or reading a file.
#define BLOCKTIER_NONBLOCKING 1

// With BLOCKTIER_NONBLOCKING: reads of files are allowed after all, waiting for room is not.
#define BLOCKTIER_MAY_READ 2

// Do what the check finds to be done. Without it nothing is changed.
#define BLOCKTIER_CHECK_REPAIR 1

// With BLOCKTIER_CHECK_REPAIR: do so also where something acknowledged and synced is lost.
#define BLOCKTIER_CHECK_ACCEPT_LOSS 2

// In a result: the job was cancelled.
#define BLOCKTIER_CHECK_INTERRUPTED 1

// In a result: nothing was repaired because something is lost and there was no consent to that.
#define BLOCKTIER_CHECK_NEEDS_CONSENT 2

// Checks of blocktier_subtree_verify: the root that the header has.
#define BLOCKTIER_VERIFY_ROOT 1

// The sums of fees and sizes that the header has.
#define BLOCKTIER_VERIFY_SUMS 2

// The rules about leaves: the placeholder only first and without fee and size, no zero hash, no
// leaf twice, conflicting hashes are leaves and listed once.
#define BLOCKTIER_VERIFY_POLICY 4

// What a call returns. Numbers are explicit and never reused.
enum blocktier_status_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Success.
  BLOCKTIER_OK = 0,
  // An argument breaks the contract of the call.
  BLOCKTIER_INVALID_ARGUMENT = 1,
  // A pointer that must not be null is.
  BLOCKTIER_NULL_POINTER = 2,
  // The caller's buffer is too small; the call says how much is needed.
  BLOCKTIER_BUFFER_TOO_SMALL = 3,
  // The key (event, disk, ...) is not there.
  BLOCKTIER_NOT_FOUND = 4,
  // The call would have to wait and was asked not to.
  BLOCKTIER_WOULD_BLOCK = 5,
  // The call waited as long as it may.
  BLOCKTIER_TIMED_OUT = 6,
  // The operating system refused a file operation; see os_errno.
  BLOCKTIER_IO = 7,
  // No space is left on a disk, or a quota is exhausted.
  BLOCKTIER_DISK_FULL = 8,
  // Bytes on disk are not what was written.
  BLOCKTIER_CORRUPT = 9,
  // A directory has another owner.
  BLOCKTIER_LOCKED = 10,
  // The platform, kernel or file system cannot do this.
  BLOCKTIER_UNSUPPORTED = 11,
  // Memory could not be had from the system or the budget.
  BLOCKTIER_OUT_OF_MEMORY = 12,
  // The value is longer than the map takes.
  BLOCKTIER_VALUE_TOO_LARGE = 13,
  // The object is closed.
  BLOCKTIER_CLOSED = 14,
  // An earlier panic made the object unusable; close it.
  BLOCKTIER_POISONED = 15,
  // A panic was caught in this call.
  BLOCKTIER_PANIC = 16,
  // The map failed earlier and takes no more writes.
  BLOCKTIER_FAILED = 17,
  // A setting is unknown, malformed or out of range.
  BLOCKTIER_SETTING = 18,
  // The bytes of a format break its rules; detail is the kind.
  BLOCKTIER_FORMAT = 19,
  // The map takes no writes: it is frozen, or the old content of a map that was rotated.
  BLOCKTIER_FROZEN = 20,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum blocktier_status_t blocktier_status_t;
#else
typedef int32_t blocktier_status_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A check of a durable map's directories, or a repair of them.
typedef struct blocktier_check_t blocktier_check_t;

// An iteration over a map.
typedef struct blocktier_cursor_t blocktier_cursor_t;

// All levels of a tree, so that a proof reads one hash per level.
typedef struct blocktier_merkle_levels_t blocktier_merkle_levels_t;

// Memory of a subtree's nodes. The memory belongs to the handle; the library itself never touches
// it.
typedef struct blocktier_node_array_t blocktier_node_array_t;

// Disks and their writer threads, memory budget, events. All calls on it may run concurrently.
typedef struct blocktier_runtime_t blocktier_runtime_t;

// A directory of subtree files, locked until it is closed and the memory of its files is freed.
// All calls but the closing one may run concurrently.
typedef struct blocktier_subtree_directory_t blocktier_subtree_directory_t;

// The state of a move between two maps.
typedef struct blocktier_transfer_t blocktier_transfer_t;

// A map from transaction ids to inpoints.
typedef struct blocktier_txmap_t blocktier_txmap_t;

// Sizes and offsets of the structs that cross the border, in bytes.
typedef struct blocktier_layout_t {
  // BLOCKTIER_ABI of the library.
  uint32_t abi;
  // sizeof(blocktier_error_t).
  uint32_t size_of_error;
  // Size of a subtree node.
  uint32_t size_of_node;
  // Offset of the fee in a node.
  uint32_t node_fee_offset;
  // Offset of the size in a node.
  uint32_t node_size_offset;
  // sizeof(blocktier_runtime_stats_t).
  uint32_t size_of_runtime_stats;
  // sizeof(blocktier_disk_stats_t).
  uint32_t size_of_disk_stats;
  // sizeof(blocktier_txmap_stats_t).
  uint32_t size_of_txmap_stats;
  // sizeof(blocktier_subtree_header_t).
  uint32_t size_of_subtree_header;
  // sizeof(blocktier_lookup_t).
  uint32_t size_of_lookup;
} blocktier_layout_t;

// What went wrong, in caller memory. Filled only when a call does not return OK.
typedef struct blocktier_error_t {
  // The status that the call returned.
  int32_t status;
  // errno of the operating system, 0 if there is none.
  int32_t os_errno;
  // For FORMAT the number of the broken rule; for WOULD_BLOCK 1 if room in the tail is missing,
  // 2 if a file would have to be read; else 0.
  uint32_t detail;
  // Bytes of text, at most 240. The text is UTF-8 and not NUL-terminated.
  uint32_t text_length;
  // What happened, where, and what to do.
  uint8_t text[BLOCKTIER_ERROR_TEXT_BYTES];
} blocktier_error_t;

// Figures of a runtime.
typedef struct blocktier_runtime_stats_t {
  // Bytes that maps, arrays and levels have reserved.
  uint64_t memory_used;
  // The budget, in bytes.
  uint64_t memory_limit;
  // Directories with a writer thread.
  uint64_t disks;
  // Events that were dropped because nobody drained them.
  uint64_t events_dropped;
} blocktier_runtime_stats_t;

// Figures of one directory since the process first used it.
typedef struct blocktier_disk_stats_t {
  // Bytes written to files.
  uint64_t bytes_written;
  // Bytes read from files.
  uint64_t bytes_read;
  // Writes that succeeded.
  uint64_t writes;
  // Reads that succeeded.
  uint64_t reads;
  // Writes that failed.
  uint64_t write_errors;
  // Jobs that wait for the writer thread.
  uint64_t queued_jobs;
  // Nanoseconds the writer thread has been busy.
  uint64_t busy_nanos;
  // Bytes of path that are filled in; a longer path is cut.
  uint64_t path_length;
  // The directory, UTF-8, not NUL-terminated.
  uint8_t path[BLOCKTIER_PATH_BYTES];
} blocktier_disk_stats_t;

// What a lookup found.
typedef struct blocktier_lookup_t {
  // In batches: where the value starts in the arena.
  uint64_t value_offset;
  // Bytes of the value.
  uint32_t value_length;
  // Subtree index of the entry, 0 if none was set.
  uint16_t subtree_index;
  // 1 found, 0 absent; in batches also 2 would block, 3 found but the arena is full.
  uint8_t found;
  // 0.
  uint8_t reserved;
} blocktier_lookup_t;

// Figures of a map; see MapStats in the Rust documentation. All u64.
typedef struct blocktier_txmap_stats_t {
  // Keys in the map.
  uint64_t entries;
  // RAM of the index, subtree indexes included, in bytes.
  uint64_t index_bytes;
  // RAM of the subtree indexes, in bytes.
  uint64_t subtree_index_bytes;
  // RAM of the tail, in bytes.
  uint64_t tail_bytes;
  // Bytes of live records, in tail and files.
  uint64_t live_bytes;
  // Segments in use.
  uint64_t segments;
  // Reads of files.
  uint64_t file_reads;
  // Tags that matched another key.
  uint64_t false_matches;
  // Confirms that went through the slow path's lock.
  uint64_t slow_confirms;
  // Times a writer waited for room in the tail.
  uint64_t waits;
  // Page splits of the index.
  uint64_t splits;
  // 1 if the map has failed and takes no more writes.
  uint64_t failed;
  // Merges of segments that were completed.
  uint64_t compactions;
  // Bytes that merges have read.
  uint64_t compaction_bytes_read;
  // Bytes of records that merges have moved.
  uint64_t compaction_bytes_written;
  // Bytes of dead records and padding, in tail and files.
  uint64_t dead_bytes;
  // Of those, what compaction is behind by.
  uint64_t pending_compaction_bytes;
  // Segments that compaction found damaged and leaves alone.
  uint64_t damaged_segments;
  // Base pages of the index that were built anew from their keys.
  uint64_t rehashes;
  // Of those that were begun, the ones that were given up for an error; the event says which.
  uint64_t rehash_failures;
} blocktier_txmap_stats_t;

// What a write would meet now.
typedef struct blocktier_backpressure_t {
  // With state 1: how long a write is delayed, in nanoseconds.
  uint64_t delay_nanos;
  // 0 nothing, 1 a delay, 2 waiting until compaction is less behind.
  uint32_t state;
  // 0.
  uint32_t reserved;
} blocktier_backpressure_t;

// How far a job is.
typedef struct blocktier_check_progress_t {
  // Bytes read.
  uint64_t done_bytes;
  // Bytes to read, about.
  uint64_t total_bytes;
  // 1 if the job has ended.
  uint32_t finished;
  // 0.
  uint32_t reserved;
} blocktier_check_progress_t;

// What came of a job.
typedef struct blocktier_check_result_t {
  // Directories of the map.
  uint64_t directories;
  // Segments that are part of the log.
  uint64_t segments;
  // Of those, the ones with a summary that agrees with them.
  uint64_t summaries;
  // Intact records of every kind.
  uint64_t records;
  // Keys that the map has when it is opened.
  uint64_t live;
  // Intact records that the map does not need.
  uint64_t dead;
  // Bytes of the records that hold the live keys.
  uint64_t live_bytes;
  // Bytes of all other intact records.
  uint64_t dead_bytes;
  // Bytes that were read.
  uint64_t read_bytes;
  // Items of list 0.
  uint64_t findings;
  // Items of list 1.
  uint64_t steps;
  // Items of list 2.
  uint64_t losses;
  // Steps that were done.
  uint64_t steps_done;
  // The gravest meaning of a finding.
  uint32_t worst;
  // BLOCKTIER_CHECK_INTERRUPTED, BLOCKTIER_CHECK_NEEDS_CONSENT.
  uint32_t flags;
} blocktier_check_result_t;

// A finding, a step of the plan, or a loss.
typedef struct blocktier_check_item_t {
  // Where in the file, in bytes; 0 for a step.
  uint64_t offset;
  // How many bytes it is about, 0 for the file as a whole.
  uint64_t length;
  // Of a loss: keys that lose their value, all ones if that is not known; otherwise 0.
  uint64_t keys;
  // Of a finding: its kind. Of a step: what it does. Otherwise 0.
  uint32_t kind;
  // Of a finding: 0 harmless, 1 can be repaired without loss, 2 something is lost. Otherwise 0.
  uint32_t meaning;
  // Bytes of the path.
  uint32_t path_length;
  // Bytes of the text, UTF-8.
  uint32_t text_length;
} blocktier_check_item_t;

// What a subtree's bytes say, sizes checked.
typedef struct blocktier_subtree_header_t {
  // The stored root, all zero in a hash list.
  uint8_t root[32];
  // Stored sum of the fees.
  uint64_t fees;
  // Stored sum of the sizes.
  uint64_t size_in_bytes;
  // Number of nodes.
  uint64_t nodes;
  // Number of conflicting hashes.
  uint64_t conflicting;
  // Offset of the first node.
  uint64_t nodes_offset;
  // Offset of the first conflicting hash.
  uint64_t conflicting_offset;
} blocktier_subtree_header_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The number of the library's ABI; compare it with BLOCKTIER_ABI of the header.
uint32_t blocktier_abi_version(void);

// The library's version, NUL-terminated; lives for ever.
const char *blocktier_version(void);

// Fills in the library's layout; nothing happens if `out` is null or misaligned.
void blocktier_layout(struct blocktier_layout_t *out);

// Live handles of a kind, for leak tests: 0 runtimes, 1 transaction maps, 2 node arrays, 3 Merkle
// levels, 4 cursors, 5 transfers, 6 checks, 7 subtree directories.
uint64_t blocktier_live_handles(uint32_t kind);

// Opens a runtime from settings: UTF-8 text of lines `key = value` (docs/settings.md), not
// NUL-terminated.
//
// On success `*out` is a handle that must be given to blocktier_runtime_close.
blocktier_status_t blocktier_runtime_open(const char *settings,
                                          size_t settings_length,
                                          struct blocktier_runtime_t **out,
                                          struct blocktier_error_t *error);

// Closes a runtime. What was made from it keeps what it needs alive. Null is fine.
blocktier_status_t blocktier_runtime_close(struct blocktier_runtime_t *runtime,
                                           struct blocktier_error_t *error);

// Fills in the runtime's figures.
blocktier_status_t blocktier_runtime_stats(const struct blocktier_runtime_t *runtime,
                                           struct blocktier_runtime_stats_t *out,
                                           struct blocktier_error_t *error);

// Takes the oldest event (a fallback that was taken, a failure) as UTF-8 text, cut to `capacity`
// bytes; NOT_FOUND when there is none.
blocktier_status_t blocktier_runtime_next_event(const struct blocktier_runtime_t *runtime,
                                                char *buffer,
                                                size_t capacity,
                                                size_t *length,
                                                struct blocktier_error_t *error);

// Figures of the directory with this number, from 0 in the order of first use; NOT_FOUND behind
// the last.
blocktier_status_t blocktier_runtime_disk_stats(const struct blocktier_runtime_t *runtime,
                                                size_t number,
                                                struct blocktier_disk_stats_t *out,
                                                struct blocktier_error_t *error);

// Opens an empty map in fresh, locked subdirectories of setting txMapDirs. Settings are text as
// for blocktier_runtime_open. On success `*out` is a handle that must be given to
// blocktier_txmap_close. On failure nothing is left behind.
blocktier_status_t blocktier_txmap_open(const struct blocktier_runtime_t *runtime,
                                        const char *settings,
                                        size_t settings_length,
                                        struct blocktier_txmap_t **out,
                                        struct blocktier_error_t *error);

// Closes a map and removes its files. The handle is gone whatever is returned: FAILED with the
// first error if the map had failed. No call may run on it. Null is fine.
blocktier_status_t blocktier_txmap_close(struct blocktier_txmap_t *map, struct blocktier_error_t *error);

// Inserts if absent. `result->found` is 1 if the key was there already; then its value is copied
// to `existing` as far as `existing_capacity` goes, `value_length` being its full length.
// `existing` may be null with capacity 0.
blocktier_status_t blocktier_txmap_set_if_not_exists(const struct blocktier_txmap_t *map,
                                                     const uint8_t *key,
                                                     const uint8_t *value,
                                                     size_t value_length,
                                                     uint16_t subtree_index,
                                                     uint32_t flags,
                                                     uint8_t *existing,
                                                     size_t existing_capacity,
                                                     struct blocktier_lookup_t *result,
                                                     struct blocktier_error_t *error);

// Sets a key's value. `*replaced` (nullable) is 1 if there was another one.
blocktier_status_t blocktier_txmap_set(const struct blocktier_txmap_t *map,
                                       const uint8_t *key,
                                       const uint8_t *value,
                                       size_t value_length,
                                       uint16_t subtree_index,
                                       uint32_t flags,
                                       uint8_t *replaced,
                                       struct blocktier_error_t *error);

// Gets a value. NOT_FOUND if the key is absent. BUFFER_TOO_SMALL if the value is longer than
// `capacity`: then `*result` is filled and the value is not copied.
blocktier_status_t blocktier_txmap_get(const struct blocktier_txmap_t *map,
                                       const uint8_t *key,
                                       uint32_t flags,
                                       uint8_t *value,
                                       size_t capacity,
                                       struct blocktier_lookup_t *result,
                                       struct blocktier_error_t *error);

// Whether a key is there, exactly: `*found` is 1 or 0.
blocktier_status_t blocktier_txmap_exists(const struct blocktier_txmap_t *map,
                                          const uint8_t *key,
                                          uint32_t flags,
                                          uint8_t *found,
                                          struct blocktier_error_t *error);

// Removes a key. `*removed` (nullable) is 1 if it was there.
blocktier_status_t blocktier_txmap_delete(const struct blocktier_txmap_t *map,
                                          const uint8_t *key,
                                          uint32_t flags,
                                          uint8_t *removed,
                                          struct blocktier_error_t *error);

// Sets the subtree index of a key. `*found` (nullable) is 1 if it was there.
blocktier_status_t blocktier_txmap_update_subtree_index(const struct blocktier_txmap_t *map,
                                                        const uint8_t *key,
                                                        uint16_t subtree_index,
                                                        uint32_t flags,
                                                        uint8_t *found,
                                                        struct blocktier_error_t *error);

// Number of keys.
blocktier_status_t blocktier_txmap_length(const struct blocktier_txmap_t *map,
                                          uint64_t *out,
                                          struct blocktier_error_t *error);

// Removes everything; a frozen map takes writes again. Calls that run meanwhile count as before
// the clear. If it fails the content is unchanged.
blocktier_status_t blocktier_txmap_clear(const struct blocktier_txmap_t *map,
                                         struct blocktier_error_t *error);

// Starts to write out everything acknowledged so far; `*ticket` is for blocktier_txmap_flush_wait.
blocktier_status_t blocktier_txmap_flush_begin(const struct blocktier_txmap_t *map,
                                               uint32_t flags,
                                               uint64_t *ticket,
                                               struct blocktier_error_t *error);

// Waits until the writes before `ticket` are with the operating system (this is not fsync), or
// returns WOULD_BLOCK with BLOCKTIER_NONBLOCKING. FAILED with the first error if a write failed.
blocktier_status_t blocktier_txmap_flush_wait(const struct blocktier_txmap_t *map,
                                              uint64_t ticket,
                                              uint32_t flags,
                                              struct blocktier_error_t *error);

// Makes everything acknowledged so far survive a power cut: flush, fdatasync, manifest. Only for a
// durable or process map, UNSUPPORTED otherwise. With BLOCKTIER_NONBLOCKING it returns WOULD_BLOCK
// where it would wait for writes or for another sync; the fdatasync is waited for in any case.
// After FAILED nothing more can be made durable.
blocktier_status_t blocktier_txmap_sync(const struct blocktier_txmap_t *map,
                                        uint32_t flags,
                                        struct blocktier_error_t *error);

// OK, or FAILED with the first error once a write has failed.
blocktier_status_t blocktier_txmap_failure(const struct blocktier_txmap_t *map,
                                           struct blocktier_error_t *error);

// Fills in the map's figures.
blocktier_status_t blocktier_txmap_stats(const struct blocktier_txmap_t *map,
                                         struct blocktier_txmap_stats_t *out,
                                         struct blocktier_error_t *error);

// Inserts each key that is absent. `keys` is n × 32 bytes; value i is
// `values[offsets[i]..offsets[i + 1]]`, so `offsets` has n + 1 elements; `subtree_indexes`
// (nullable: all 0) has n.
//
// `states` has n bytes, 0 before the first call: afterwards 1 inserted, 2 there already, 0 not
// decided (after WOULD_BLOCK or an error). Items that are not 0 on entry are skipped, so the same
// call can be repeated until it is done. `*done` (nullable) is the number of items that are not 0.
blocktier_status_t blocktier_txmap_set_if_not_exists_batch(const struct blocktier_txmap_t *map,
                                                           const uint8_t *keys,
                                                           size_t n,
                                                           const uint8_t *values,
                                                           const uint64_t *offsets,
                                                           const uint16_t *subtree_indexes,
                                                           uint32_t flags,
                                                           uint8_t *states,
                                                           size_t *done,
                                                           struct blocktier_error_t *error);

// Sets each key's value: state 1 new, 2 replaced. Otherwise like
// blocktier_txmap_set_if_not_exists_batch.
blocktier_status_t blocktier_txmap_set_batch(const struct blocktier_txmap_t *map,
                                             const uint8_t *keys,
                                             size_t n,
                                             const uint8_t *values,
                                             const uint64_t *offsets,
                                             const uint16_t *subtree_indexes,
                                             uint32_t flags,
                                             uint8_t *states,
                                             size_t *done,
                                             struct blocktier_error_t *error);

// Removes each key: state 1 removed, 2 absent. Otherwise like
// blocktier_txmap_set_if_not_exists_batch.
blocktier_status_t blocktier_txmap_delete_batch(const struct blocktier_txmap_t *map,
                                                const uint8_t *keys,
                                                size_t n,
                                                uint32_t flags,
                                                uint8_t *states,
                                                size_t *done,
                                                struct blocktier_error_t *error);

// Sets one subtree index on many keys: state 1 done, 2 absent. Key i is the 32 bytes at `keys + i
// × key_stride`; `key_stride` is 32 for hashes, 48 for subtree nodes.
blocktier_status_t blocktier_txmap_update_subtree_index_batch(const struct blocktier_txmap_t *map,
                                                              const uint8_t *keys,
                                                              size_t n,
                                                              size_t key_stride,
                                                              uint16_t subtree_index,
                                                              uint32_t flags,
                                                              uint8_t *states,
                                                              size_t *done,
                                                              struct blocktier_error_t *error);

// Gets many values. Found ones are put into the arena in any order, each at
// `results[i].value_offset`; `results` has n elements. `found` is 1 found, 0 absent, 2 would block
// (BLOCKTIER_NONBLOCKING), 3 found but the arena was full: then `value_length` is set. `*needed`
// is the number of bytes that the 3s need.
//
// Returns WOULD_BLOCK if there is any 2, else BUFFER_TOO_SMALL if there is any 3, else OK. Ask
// again for those alone.
blocktier_status_t blocktier_txmap_get_batch(const struct blocktier_txmap_t *map,
                                             const uint8_t *keys,
                                             size_t n,
                                             uint32_t flags,
                                             uint8_t *arena,
                                             size_t capacity,
                                             struct blocktier_lookup_t *results,
                                             size_t *needed,
                                             struct blocktier_error_t *error);

// Whether each of n keys is there: `found[i]` is 1 or 0, or 2 if it would block (then the call
// returns WOULD_BLOCK).
blocktier_status_t blocktier_txmap_exists_batch(const struct blocktier_txmap_t *map,
                                                const uint8_t *keys,
                                                size_t n,
                                                uint32_t flags,
                                                uint8_t *found,
                                                struct blocktier_error_t *error);

// The subtree indexes of n keys, without their values: `found[i]` is 1 or 0, or 2 if it would
// block (then the call returns WOULD_BLOCK). `subtree_indexes[i]` is that of a key that was found,
// else 0; both have n elements.
blocktier_status_t blocktier_txmap_subtree_index_batch(const struct blocktier_txmap_t *map,
                                                       const uint8_t *keys,
                                                       size_t n,
                                                       uint32_t flags,
                                                       uint16_t *subtree_indexes,
                                                       uint8_t *found,
                                                       struct blocktier_error_t *error);

// Begins an iteration over a map in the order of its log; over its keys alone if `keys_only` is
// not 0. `*out` must be given to blocktier_cursor_free, before or after the map is closed.
//
// A key that is there during the whole iteration is visited exactly once, also when it is
// overwritten meanwhile; one that is inserted or removed meanwhile once or not at all. After a
// clear or a rotation the iteration goes on over the old content. A cursor takes 8 bytes of RAM
// per key and keeps files that would go else until it is freed.
blocktier_status_t blocktier_txmap_iterate(const struct blocktier_txmap_t *map,
                                           uint8_t keys_only,
                                           struct blocktier_cursor_t **out,
                                           struct blocktier_error_t *error);

// Ends an iteration. Null is fine.
blocktier_status_t blocktier_cursor_free(struct blocktier_cursor_t *cursor, struct blocktier_error_t *error);

// The next records, up to n: their keys to `keys` (n x 32 bytes), values to the arena, one behind
// the other, and where they are to `results`, which has n elements. `*count` is how many; with
// OK, 0 means the end.
//
// WOULD_BLOCK with BLOCKTIER_NONBLOCKING, or an error, is returned only if `*count` would be 0:
// the same call can be repeated, nothing is skipped. BUFFER_TOO_SMALL if the arena does not even
// hold the first value: then `*needed` is its length.
blocktier_status_t blocktier_cursor_next(struct blocktier_cursor_t *cursor,
                                         size_t n,
                                         uint32_t flags,
                                         uint8_t *keys,
                                         uint8_t *arena,
                                         size_t capacity,
                                         struct blocktier_lookup_t *results,
                                         size_t *count,
                                         size_t *needed,
                                         struct blocktier_error_t *error);

// Takes the content out of a map, which is then empty and not frozen. `*out` is a handle of the
// old content that must be given to blocktier_txmap_close, before or after the map; its files go
// then. All reads work on it; writes, clear and rotate return FROZEN. Calls that run meanwhile
// finish on the old content, which therefore changes until the last of them has returned. If it
// fails the content is unchanged.
blocktier_status_t blocktier_txmap_rotate(const struct blocktier_txmap_t *map,
                                          struct blocktier_txmap_t **out,
                                          struct blocktier_error_t *error);

// Makes a map read-only until it is cleared or rotated: when this returns nothing changes any more
// and writes return FROZEN. Freezing twice is fine.
blocktier_status_t blocktier_txmap_freeze(const struct blocktier_txmap_t *map,
                                          struct blocktier_error_t *error);

// `*frozen` is 1 if writes return FROZEN, else 0.
blocktier_status_t blocktier_txmap_is_frozen(const struct blocktier_txmap_t *map,
                                             uint8_t *frozen,
                                             struct blocktier_error_t *error);

// Begins a move between maps; `*out` must be given to blocktier_transfer_free.
blocktier_status_t blocktier_transfer_new(struct blocktier_transfer_t **out, struct blocktier_error_t *error);

// Frees a transfer, ended or not. Null is fine.
blocktier_status_t blocktier_transfer_free(struct blocktier_transfer_t *transfer,
                                           struct blocktier_error_t *error);

// Inserts into `map` the records of n keys (n x 32 bytes) that are in `source`, value and subtree
// index, each unless its key is in `map`. One call does a part that takes some milliseconds;
// repeat it with the same arguments until `*finished` is 1.
//
// `states` has n bytes, 0 before the first call: 1 inserted, 2 there already. If `source` lacks a
// key, the call returns NOT_FOUND, `*missing` is the position of the first such key, and nothing
// was inserted. That holds for a `source` that does not change meanwhile: one that is frozen or
// was rotated, or that nobody writes. `source` must not be `map` (INVALID_ARGUMENT).
//
// After WOULD_BLOCK the same call goes on. After another error the records whose states are not 0
// are in `map`.
blocktier_status_t blocktier_transfer_step(struct blocktier_transfer_t *transfer,
                                           const struct blocktier_txmap_t *map,
                                           const struct blocktier_txmap_t *source,
                                           const uint8_t *keys,
                                           size_t n,
                                           uint32_t flags,
                                           uint8_t *states,
                                           uint8_t *finished,
                                           size_t *missing,
                                           struct blocktier_error_t *error);

// Compacts now, on the calling thread and at any rate, until the settings find nothing more to
// merge among the segments that are complete at the call; that can take as long as reading and
// writing what is live in them. CORRUPT or IO if a segment could not be read: it is left alone and
// the rest was merged. DISK_FULL without room for a merge, TIMED_OUT without room in the tail.
// UNSUPPORTED for a map that cannot be compacted, FROZEN for what a rotation returned. Nothing is
// lost by any of them.
blocktier_status_t blocktier_txmap_compact(const struct blocktier_txmap_t *map,
                                           struct blocktier_error_t *error);

// Changes settings of compaction: `settings` is lines of `key = value` as in an open's settings,
// with those alone that are to change (txMapCompaction...). A merge under way goes on as it was
// begun, unless compaction is switched off; writers that wait are judged anew. They are this
// process's and are not kept in the map's files. SETTING for what is out of range, contradicts
// itself or is none of compaction's, FROZEN for what a rotation returned; nothing has changed
// then.
blocktier_status_t blocktier_txmap_set_compaction(const struct blocktier_txmap_t *map,
                                                  const char *settings,
                                                  size_t settings_length,
                                                  struct blocktier_error_t *error);

// Changes from how many pending bytes on writers are delayed, the more the closer to
// `stop_bytes`, and from how many on they wait; 0 is never. `max_delay_ms` is the longest delay.
// Writers that wait now are judged anew. It changes the three settings that say so
// (txMapCompactionSlowdown, txMapCompactionStop, txMapCompactionMaxDelay), with the errors of
// blocktier_txmap_set_compaction.
blocktier_status_t blocktier_txmap_set_backpressure(const struct blocktier_txmap_t *map,
                                                    uint64_t slowdown_bytes,
                                                    uint64_t stop_bytes,
                                                    uint64_t max_delay_ms,
                                                    struct blocktier_error_t *error);

// What a write would meet now.
blocktier_status_t blocktier_txmap_backpressure(const struct blocktier_txmap_t *map,
                                                struct blocktier_backpressure_t *out,
                                                struct blocktier_error_t *error);

// Begins to check a durable map; with BLOCKTIER_CHECK_REPAIR also to repair it. `dirs` are the
// directories of setting txMapDirs, or the map's own directories in them, in any order, one a
// line. `name`, which may have length 0, is the map's name where a directory holds several.
// `memory_bytes` bounds what telling live records from dead ones takes; 0 is 256 MiB. The job runs
// on a thread of its own; `*out` must be given to blocktier_check_free.
//
// What goes wrong, such as LOCKED for a map that somebody has open, is told by
// blocktier_check_result.
blocktier_status_t blocktier_check_start(const char *dirs,
                                         size_t dirs_length,
                                         const char *name,
                                         size_t name_length,
                                         uint64_t memory_bytes,
                                         uint32_t flags,
                                         struct blocktier_check_t **out,
                                         struct blocktier_error_t *error);

// How far a job is.
blocktier_status_t blocktier_check_poll(const struct blocktier_check_t *check,
                                        struct blocktier_check_progress_t *out,
                                        struct blocktier_error_t *error);

// Asks a job to end early. What it found until then can be had; a repair ends between two steps.
blocktier_status_t blocktier_check_cancel(const struct blocktier_check_t *check,
                                          struct blocktier_error_t *error);

// What came of a job. WOULD_BLOCK until it has ended; the error that ended it is told once, CLOSED
// from then on. Damage is no error: it is in the lists.
blocktier_status_t blocktier_check_result(const struct blocktier_check_t *check,
                                          struct blocktier_check_result_t *out,
                                          struct blocktier_error_t *error);

// Item `index` of a list: 0 the findings, 1 the steps of the repair, 2 the losses. Its path goes
// to `path`, its text to `text`; neither ends with NUL. NOT_FOUND behind the end. BUFFER_TOO_SMALL
// where they do not fit: then only `*out`, which has their lengths, is filled.
blocktier_status_t blocktier_check_item(const struct blocktier_check_t *check,
                                        uint32_t list,
                                        size_t index,
                                        struct blocktier_check_item_t *out,
                                        char *path,
                                        size_t path_capacity,
                                        char *text,
                                        size_t text_capacity,
                                        struct blocktier_error_t *error);

// Frees a job; one that still runs is cancelled and waited for. Null is fine.
blocktier_status_t blocktier_check_free(struct blocktier_check_t *check, struct blocktier_error_t *error);

// Makes an array of `capacity_nodes` × 48 bytes: in an unlinked file in `directory` whose space is
// reserved before it is mapped, or with length 0 in anonymous memory. `*data` is page-aligned,
// zeroed, writable, and lives until blocktier_node_array_free. A full disk is DISK_FULL here and
// never a signal later.
blocktier_status_t blocktier_node_array_new(const struct blocktier_runtime_t *runtime,
                                            uint64_t capacity_nodes,
                                            const char *directory,
                                            size_t directory_length,
                                            struct blocktier_node_array_t **out,
                                            void **data,
                                            struct blocktier_error_t *error);

// As blocktier_node_array_new, for an array that will be filled: all of its pages are there when
// the call returns, for less than first touches would cost later.
blocktier_status_t blocktier_node_array_touched(const struct blocktier_runtime_t *runtime,
                                                uint64_t capacity_nodes,
                                                const char *directory,
                                                size_t directory_length,
                                                struct blocktier_node_array_t **out,
                                                void **data,
                                                struct blocktier_error_t *error);

// Frees an array; its memory must not be touched any more. Null is fine.
blocktier_status_t blocktier_node_array_free(struct blocktier_node_array_t *array,
                                             struct blocktier_error_t *error);

// The root over `n` nodes of 48 bytes, 8-byte aligned. `first_hash` (nullable, 32 bytes) stands in
// for the first leaf: the coinbase transaction's id for its placeholder. With `padded_height`
// above 0 the root is lifted to that height.
blocktier_status_t blocktier_subtree_root(const void *nodes,
                                          size_t n,
                                          const uint8_t *first_hash,
                                          uint32_t padded_height,
                                          uint8_t *root,
                                          struct blocktier_error_t *error);

// The roots of `n` subtrees at once, on all processors: `nodes[i]` points to `counts[i]` nodes of
// 48 bytes, 8-byte aligned. `roots` is memory for n × 32 bytes. One subtree without nodes is an
// error that names it, and no root is written.
blocktier_status_t blocktier_subtree_roots(const void *const *nodes,
                                           const size_t *counts,
                                           size_t n,
                                           uint8_t *roots,
                                           struct blocktier_error_t *error);

// The root over `n` hashes of 32 bytes, lifted to `padded_height` if that is above 0.
blocktier_status_t blocktier_merkle_root(const uint8_t *hashes,
                                         size_t n,
                                         uint32_t padded_height,
                                         uint8_t *root,
                                         struct blocktier_error_t *error);

// The Merkle root of a block from the roots of its `n` subtrees (n × 32 bytes). All but the last
// have 2^height leaves, the last one `last_leaves`; the first root is that with the coinbase
// transaction's id in place.
blocktier_status_t blocktier_block_root(const uint8_t *roots,
                                        size_t n,
                                        uint32_t height,
                                        uint64_t last_leaves,
                                        uint8_t *root,
                                        struct blocktier_error_t *error);

// Builds and keeps all levels over `n` leaves: hashes (`stride` 32) or nodes (`stride` 48, 8-byte
// aligned). The levels are in an unlinked file in `directory`, or with length 0 in RAM.
blocktier_status_t blocktier_merkle_levels_new(const struct blocktier_runtime_t *runtime,
                                               const void *leaves,
                                               size_t n,
                                               size_t stride,
                                               const char *directory,
                                               size_t directory_length,
                                               struct blocktier_merkle_levels_t **out,
                                               struct blocktier_error_t *error);

// As blocktier_merkle_levels_new, with room for `capacity` leaves, at least `n`, which never
// grows. 64 bytes of memory per leaf of the capacity. The leaves are copied.
blocktier_status_t blocktier_merkle_levels_with_capacity(const struct blocktier_runtime_t *runtime,
                                                         const void *leaves,
                                                         size_t n,
                                                         size_t stride,
                                                         uint64_t capacity,
                                                         const char *directory,
                                                         size_t directory_length,
                                                         struct blocktier_merkle_levels_t **out,
                                                         struct blocktier_error_t *error);

// Frees kept levels. Null is fine.
blocktier_status_t blocktier_merkle_levels_free(struct blocktier_merkle_levels_t *levels,
                                                struct blocktier_error_t *error);

// The root of kept levels.
blocktier_status_t blocktier_merkle_levels_root(const struct blocktier_merkle_levels_t *levels,
                                                uint8_t *root,
                                                struct blocktier_error_t *error);

// The siblings from leaf `index` up to the root, lowest first. `*count` is their number;
// BUFFER_TOO_SMALL if it is above `capacity_hashes`, then nothing is copied.
blocktier_status_t blocktier_merkle_levels_proof(const struct blocktier_merkle_levels_t *levels,
                                                 uint64_t index,
                                                 uint8_t *siblings,
                                                 size_t capacity_hashes,
                                                 size_t *count,
                                                 struct blocktier_error_t *error);

// Replaces a leaf and recomputes its path. Exclusive: no other call on these levels may run.
blocktier_status_t blocktier_merkle_levels_set_leaf(struct blocktier_merkle_levels_t *levels,
                                                    uint64_t index,
                                                    const uint8_t *hash,
                                                    struct blocktier_error_t *error);

// The root that a leaf at `index` and its `count` siblings (count × 32 bytes) lead to.
blocktier_status_t blocktier_merkle_proof_fold(const uint8_t *leaf,
                                               uint64_t index,
                                               const uint8_t *siblings,
                                               size_t count,
                                               uint8_t *root,
                                               struct blocktier_error_t *error);

// Appends `n` leaves, hashes (`stride` 32) or nodes (`stride` 48, 8-byte aligned), and recomputes
// what they reach. INVALID_ARGUMENT, and nothing changed, if they exceed the capacity. Exclusive:
// no other call on these levels may run.
blocktier_status_t blocktier_merkle_levels_append(struct blocktier_merkle_levels_t *levels,
                                                  const void *leaves,
                                                  size_t n,
                                                  size_t stride,
                                                  struct blocktier_error_t *error);

// Replaces `n` leaves: `indexes[i]` by the hash at `hashes` + 32 i; of several for one leaf the
// last one counts. All or none. Exclusive.
blocktier_status_t blocktier_merkle_levels_set_leaves(struct blocktier_merkle_levels_t *levels,
                                                      const uint64_t *indexes,
                                                      const uint8_t *hashes,
                                                      size_t n,
                                                      struct blocktier_error_t *error);

// Removes leaf `index`; the later ones move up. INVALID_ARGUMENT, and nothing changed, past the
// last leaf and for the only one. Exclusive.
blocktier_status_t blocktier_merkle_levels_remove(struct blocktier_merkle_levels_t *levels,
                                                  uint64_t index,
                                                  struct blocktier_error_t *error);

// Compares the levels' leaves with `n` hashes (`stride` 32) or nodes (`stride` 48, 8-byte
// aligned). INVALID_ARGUMENT naming the first leaf that differs, or both numbers.
blocktier_status_t blocktier_merkle_levels_check_current(const struct blocktier_merkle_levels_t *levels,
                                                         const void *leaves,
                                                         size_t n,
                                                         size_t stride,
                                                         struct blocktier_error_t *error);

// The siblings of the `n` leaves `indexes`, proof after proof, each `*height` hashes from the leaf
// up. BUFFER_TOO_SMALL if n × `*height` is above `capacity_hashes`; then, and on an error, nothing
// is copied.
blocktier_status_t blocktier_merkle_levels_proofs(const struct blocktier_merkle_levels_t *levels,
                                                  const uint64_t *indexes,
                                                  size_t n,
                                                  uint8_t *siblings,
                                                  size_t capacity_hashes,
                                                  size_t *height,
                                                  struct blocktier_error_t *error);

// Checks the content of a subtree in memory: `n` nodes of 48 bytes, 8-byte aligned, and
// `conflicting_count` × 32 bytes. `checks` is an or of BLOCKTIER_VERIFY_*; of `header` root and
// sums are read. `expected_root` (nullable, 32 bytes) has to be the root, too. FORMAT with the
// kind of the first rule that is broken in `detail` and the place in the text; the order is root,
// fees, sizes, placeholder, zero hashes, duplicates, conflicting hashes.
blocktier_status_t blocktier_subtree_verify(const struct blocktier_subtree_header_t *header,
                                            const void *nodes,
                                            size_t n,
                                            const uint8_t *conflicting,
                                            size_t conflicting_count,
                                            uint32_t checks,
                                            const uint8_t *expected_root,
                                            struct blocktier_error_t *error);

// Checks the sizes of a subtree: `format` 0 plain, 1 with magic, 2 bare hashes. With `verify`
// other than 0 also root, sums, placeholder, zero hashes, duplicates and conflicting hashes.
// FORMAT with the kind in `detail` and the place in the text.
blocktier_status_t blocktier_subtree_inspect(const uint8_t *bytes,
                                             size_t length,
                                             uint32_t format,
                                             uint32_t verify,
                                             struct blocktier_subtree_header_t *out,
                                             struct blocktier_error_t *error);

// Takes an existing directory for subtree files and removes what a killed process left unfinished
// in it (`.*.new`). UNSUPPORTED if others can change its files (owner, permissions, a network file
// system), with what to do; LOCKED if it has an owner.
blocktier_status_t blocktier_subtree_directory_open(const struct blocktier_runtime_t *runtime,
                                                    const char *directory,
                                                    size_t directory_length,
                                                    struct blocktier_subtree_directory_t **out,
                                                    struct blocktier_error_t *error);

// Writes a subtree of `n` nodes of 48 bytes, 8-byte aligned, to file `name`, durably, in the place
// of the file that has the name now; memory of that one stays as it is. `header` has the root and
// the sums to store, its other fields are not read; null has them computed. `conflicting` is
// `conflicting_count` × 32 bytes. After an error the name has the file it had (or the new one, if
// the text says that syncing the directory failed).
blocktier_status_t blocktier_subtree_directory_store(const struct blocktier_subtree_directory_t *directory,
                                                     const char *name,
                                                     size_t name_length,
                                                     uint32_t format,
                                                     const struct blocktier_subtree_header_t *header,
                                                     const void *nodes,
                                                     size_t n,
                                                     const uint8_t *conflicting,
                                                     size_t conflicting_count,
                                                     struct blocktier_error_t *error);

// Maps file `name`: `format` 0 plain or 1 with magic. Sizes are checked to the last byte, content
// is not. `*data` is the first of `header->nodes` nodes, 8-byte aligned; the conflicting hashes
// lie `header->conflicting_offset - header->nodes_offset` bytes behind it. What is written there
// is seen by this process alone and never gets into the file. It lives until
// blocktier_node_array_free. UNSUPPORTED if others can change the file; FORMAT as of
// blocktier_subtree_inspect.
blocktier_status_t blocktier_subtree_directory_map(const struct blocktier_subtree_directory_t *directory,
                                                   const char *name,
                                                   size_t name_length,
                                                   uint32_t format,
                                                   struct blocktier_node_array_t **out,
                                                   void **data,
                                                   struct blocktier_subtree_header_t *header,
                                                   struct blocktier_error_t *error);

// Closes a directory; memory of its files stays, and keeps it locked. Null is fine.
blocktier_status_t blocktier_subtree_directory_close(struct blocktier_subtree_directory_t *directory,
                                                     struct blocktier_error_t *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BLOCKTIER_H */

/* The C ABI of blocktier. Generated from the library's sources; this copy lets cgo see a change of the header. */
#ifndef BLOCKTIER_H
#define BLOCKTIER_H
#include <stddef.h>
#include <stdint.h>

#define BLOCKTIER_ABI 1

typedef int32_t blocktier_status_t;
enum {
  BLOCKTIER_OK = 0, BLOCKTIER_INVALID_ARGUMENT = 1, BLOCKTIER_NULL_POINTER = 2, BLOCKTIER_BUFFER_TOO_SMALL = 3,
  BLOCKTIER_NOT_FOUND = 4, BLOCKTIER_WOULD_BLOCK = 5, BLOCKTIER_TIMED_OUT = 6, BLOCKTIER_IO = 7, BLOCKTIER_DISK_FULL = 8,
  BLOCKTIER_CORRUPT = 9, BLOCKTIER_LOCKED = 10, BLOCKTIER_UNSUPPORTED = 11, BLOCKTIER_OUT_OF_MEMORY = 12,
  BLOCKTIER_VALUE_TOO_LARGE = 13, BLOCKTIER_CLOSED = 14, BLOCKTIER_POISONED = 15, BLOCKTIER_PANIC = 16,
  BLOCKTIER_FAILED = 17, BLOCKTIER_SETTING = 18, BLOCKTIER_FORMAT = 19
};

typedef struct blocktier_runtime_t blocktier_runtime_t;
typedef struct blocktier_txmap_t blocktier_txmap_t;
typedef struct blocktier_node_array_t blocktier_node_array_t;
typedef struct blocktier_merkle_levels_t blocktier_merkle_levels_t;

typedef struct { int32_t status; int32_t os_errno; uint32_t detail; uint32_t text_length; char text[240]; } blocktier_error_t;
typedef struct { uint32_t abi; uint32_t size_of_error, size_of_node, node_fee_offset, node_size_offset, size_of_runtime_stats,
  size_of_txmap_stats, size_of_subtree_header, size_of_lookup; } blocktier_layout_t;
typedef struct { uint64_t memory_used_bytes, memory_limit_bytes, disks, events_dropped; } blocktier_runtime_stats_t;
typedef struct { uint64_t bytes_written, bytes_read, writes, reads, queued_jobs, write_errors, busy_nanos; char path[256]; } blocktier_disk_stats_t;
typedef struct { uint64_t entries, index_bytes, subtree_index_bytes, tail_bytes, disk_written_bytes, disk_read_bytes, live_bytes; } blocktier_txmap_stats_t;
typedef struct { uint64_t value_length; uint16_t subtree_index; uint8_t found; uint8_t reserved[5]; } blocktier_lookup_t;
typedef struct { uint8_t root[32]; uint64_t fees, size_in_bytes, nodes, conflicting; uint64_t nodes_offset, conflicting_offset; } blocktier_subtree_header_t;

#define BLOCKTIER_NONBLOCKING 1u
/* beside NONBLOCKING: disks may be read, only missing space makes the call return WOULD_BLOCK */
#define BLOCKTIER_MAY_READ 2u
#define BLOCKTIER_NODE_ARRAY_ANONYMOUS_FALLBACK 1u

uint32_t blocktier_abi_version(void);
const char *blocktier_version(void);
void blocktier_layout(blocktier_layout_t *out);
uint64_t blocktier_live_handles(uint32_t kind);

blocktier_status_t blocktier_runtime_open(const char *settings, size_t settings_length, blocktier_runtime_t **out, blocktier_error_t *error);
blocktier_status_t blocktier_runtime_close(blocktier_runtime_t *runtime, blocktier_error_t *error);
blocktier_status_t blocktier_runtime_stats(const blocktier_runtime_t *runtime, blocktier_runtime_stats_t *out, blocktier_error_t *error);
blocktier_status_t blocktier_runtime_next_event(const blocktier_runtime_t *runtime, char *buffer, size_t capacity, size_t *length, blocktier_error_t *error);
blocktier_status_t blocktier_runtime_disk_stats(const blocktier_runtime_t *runtime, size_t index, blocktier_disk_stats_t *out, blocktier_error_t *error);

blocktier_status_t blocktier_txmap_open(const blocktier_runtime_t *runtime, const char *settings, size_t settings_length, blocktier_txmap_t **out, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_close(blocktier_txmap_t *map, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_set_if_not_exists(const blocktier_txmap_t *map, const uint8_t *key, const uint8_t *value, size_t value_length, uint16_t subtree_index, uint32_t flags, uint8_t *existing, size_t existing_capacity, blocktier_lookup_t *result, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_set_if_not_exists_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, const uint8_t *values, const uint64_t *offsets, const uint16_t *subtree_indexes, uint32_t flags, uint8_t *states, size_t *done, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_set(const blocktier_txmap_t *map, const uint8_t *key, const uint8_t *value, size_t value_length, uint16_t subtree_index, uint32_t flags, uint8_t *replaced, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_set_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, const uint8_t *values, const uint64_t *offsets, const uint16_t *subtree_indexes, uint32_t flags, uint8_t *states, size_t *done, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_get(const blocktier_txmap_t *map, const uint8_t *key, uint32_t flags, uint8_t *value, size_t capacity, blocktier_lookup_t *result, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_get_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, uint32_t flags, uint8_t *arena, size_t capacity, blocktier_lookup_t *results, size_t *needed, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_exists(const blocktier_txmap_t *map, const uint8_t *key, uint32_t flags, uint8_t *found, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_exists_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, uint32_t flags, uint8_t *found, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_delete(const blocktier_txmap_t *map, const uint8_t *key, uint32_t flags, uint8_t *removed, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_delete_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, uint32_t flags, uint8_t *states, size_t *done, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_update_subtree_index(const blocktier_txmap_t *map, const uint8_t *key, uint16_t subtree_index, uint32_t flags, uint8_t *found, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_update_subtree_index_batch(const blocktier_txmap_t *map, const uint8_t *keys, size_t n, size_t key_stride, uint16_t subtree_index, uint32_t flags, uint8_t *states, size_t *done, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_length(const blocktier_txmap_t *map, uint64_t *out, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_clear(const blocktier_txmap_t *map, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_flush(const blocktier_txmap_t *map, uint32_t flags, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_failure(const blocktier_txmap_t *map, blocktier_error_t *error);
blocktier_status_t blocktier_txmap_stats(const blocktier_txmap_t *map, blocktier_txmap_stats_t *out, blocktier_error_t *error);

blocktier_status_t blocktier_node_array_new(const blocktier_runtime_t *runtime, uint64_t capacity_nodes, const char *directory, size_t directory_length, uint32_t flags, blocktier_node_array_t **out, void **data, blocktier_error_t *error);
blocktier_status_t blocktier_node_array_free(blocktier_node_array_t *array, blocktier_error_t *error);

blocktier_status_t blocktier_subtree_root(const void *nodes, size_t n, const uint8_t *first_hash, uint32_t padded_height, uint8_t *root, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_root(const uint8_t *hashes, size_t n, uint32_t padded_height, uint8_t *root, blocktier_error_t *error);
blocktier_status_t blocktier_block_root(const uint8_t *roots, size_t n, uint32_t height, uint64_t last_leaves, uint8_t *root, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_levels_new(const blocktier_runtime_t *runtime, const void *nodes_or_hashes, size_t n, size_t stride, const char *directory, size_t directory_length, blocktier_merkle_levels_t **out, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_levels_free(blocktier_merkle_levels_t *levels, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_levels_root(const blocktier_merkle_levels_t *levels, uint8_t *root, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_levels_proof(const blocktier_merkle_levels_t *levels, uint64_t index, uint8_t *siblings, size_t capacity_hashes, size_t *count, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_levels_set_leaf(blocktier_merkle_levels_t *levels, uint64_t index, const uint8_t *hash, blocktier_error_t *error);
blocktier_status_t blocktier_merkle_proof_fold(const uint8_t *leaf, uint64_t index, const uint8_t *siblings, size_t count, uint8_t *root, blocktier_error_t *error);
blocktier_status_t blocktier_subtree_inspect(const uint8_t *bytes, size_t length, uint32_t format, uint32_t verify, blocktier_subtree_header_t *out, blocktier_error_t *error);

#endif

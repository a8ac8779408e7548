//go:build !(cgo && linux && (amd64 || arm64))

package ffi

import (
	"runtime"
	"unsafe"
)

// ReadDisk lets a call read disks but not wait for space.
const ReadDisk uint32 = 0

// BuildID identifies the linked archive; there is none.
const BuildID = ""

// Available tells what this build lacks.
func Available() error { return errMissing }

var errMissing = missing()

func missing() error {
	if runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
		return Errorf(Unsupported,
			"built without cgo: set CGO_ENABLED=1 and have a C compiler to use memory and maps "+
				"outside the Go heap, or leave the directories empty to use the Go heap")
	}
	return Errorf(Unsupported,
		"no library for %s/%s (there is one for linux/amd64 and linux/arm64): leave the "+
			"directories empty to use the Go heap", runtime.GOOS, runtime.GOARCH)
}

// Version is the library's version; there is none.
func Version() string { return "" }

// LiveHandles is 0.
func LiveHandles(HandleKind) uint64 { return 0 }

// Runtime cannot be opened in this build.
type Runtime struct{}

// TxMap cannot be opened in this build.
type TxMap struct{}

// NodeArray cannot be made in this build.
type NodeArray struct{}

// SubtreeDirectory cannot be opened in this build.
type SubtreeDirectory struct{}

// MerkleLevels cannot be made in this build.
type MerkleLevels struct{}

// OpenRuntime fails: this build has no library.
func OpenRuntime(string) (Runtime, error) {
	return Runtime{}, errMissing
}

// Close fails: this build has no library.
func (Runtime) Close() error {
	return errMissing
}

// NextEvent fails: this build has no library.
func (Runtime) NextEvent([]byte) (int, error) {
	return 0, errMissing
}

// Stats fails: this build has no library.
func (Runtime) Stats() (RuntimeStats, error) {
	return RuntimeStats{}, errMissing
}

// Disk fails: this build has no library.
func (Runtime) Disk(int) (DiskStats, error) {
	return DiskStats{}, errMissing
}

// Stats fails: this build has no library.
func (TxMap) Stats() (TxMapStats, error) {
	return TxMapStats{}, errMissing
}

// OpenTxMap fails: this build has no library.
func OpenTxMap(Runtime, string) (TxMap, error) {
	return TxMap{}, errMissing
}

// Close fails: this build has no library.
func (TxMap) Close() error {
	return errMissing
}

// SetIfNotExists fails: this build has no library.
func (TxMap) SetIfNotExists(*[32]byte, []byte, uint16, uint32, []byte, *Lookup) error {
	return errMissing
}

// Set fails: this build has no library.
func (TxMap) Set(*[32]byte, []byte, uint16, uint32) (bool, error) {
	return false, errMissing
}

// Get fails: this build has no library.
func (TxMap) Get(*[32]byte, uint32, []byte, *Lookup) error {
	return errMissing
}

// Exists fails: this build has no library.
func (TxMap) Exists(*[32]byte, uint32) (bool, error) {
	return false, errMissing
}

// Delete fails: this build has no library.
func (TxMap) Delete(*[32]byte, uint32) (bool, error) {
	return false, errMissing
}

// UpdateSubtreeIndex fails: this build has no library.
func (TxMap) UpdateSubtreeIndex(*[32]byte, uint16, uint32) (bool, error) {
	return false, errMissing
}

// Length fails: this build has no library.
func (TxMap) Length() (uint64, error) {
	return 0, errMissing
}

// Clear fails: this build has no library.
func (TxMap) Clear() error {
	return errMissing
}

// FlushBegin fails: this build has no library.
func (TxMap) FlushBegin(uint32) (uint64, error) {
	return 0, errMissing
}

// FlushWait fails: this build has no library.
func (TxMap) FlushWait(uint64, uint32) error {
	return errMissing
}

// Sync fails: this build has no library.
func (TxMap) Sync(uint32) error {
	return errMissing
}

// Failure fails: this build has no library.
func (TxMap) Failure() error {
	return errMissing
}

// SetIfNotExistsBatch fails: this build has no library.
func (TxMap) SetIfNotExistsBatch(Batch, uint32) (int, error) {
	return 0, errMissing
}

// SetBatch fails: this build has no library.
func (TxMap) SetBatch(Batch, uint32) (int, error) {
	return 0, errMissing
}

// GetBatch fails: this build has no library.
func (TxMap) GetBatch([]byte, uint32, []byte, []Lookup) (int, error) {
	return 0, errMissing
}

// ExistsBatch fails: this build has no library.
func (TxMap) ExistsBatch([]byte, uint32, []byte) error {
	return errMissing
}

// SubtreeIndexBatch fails: this build has no library.
func (TxMap) SubtreeIndexBatch([]byte, uint32, []int16, []byte) error {
	return errMissing
}

// DeleteBatch fails: this build has no library.
func (TxMap) DeleteBatch([]byte, uint32, []byte) (int, error) {
	return 0, errMissing
}

// UpdateSubtreeIndexBatch fails: this build has no library.
func (TxMap) UpdateSubtreeIndexBatch([]byte, int, uint16, uint32, []byte) (int, error) {
	return 0, errMissing
}

// NewNodeArray fails: this build has no library.
func NewNodeArray(Runtime, uint64, string, bool) (NodeArray, unsafe.Pointer, error) {
	return NodeArray{}, nil, errMissing
}

// Free fails: this build has no library.
func (NodeArray) Free() error {
	return errMissing
}

// OpenSubtreeDirectory fails: this build has no library.
func OpenSubtreeDirectory(Runtime, string) (SubtreeDirectory, error) {
	return SubtreeDirectory{}, errMissing
}

// Store fails: this build has no library.
func (SubtreeDirectory) Store(string, uint32, *SubtreeHeader, unsafe.Pointer, int, []byte) error {
	return errMissing
}

// Map fails: this build has no library.
func (SubtreeDirectory) Map(string, uint32) (NodeArray, unsafe.Pointer, SubtreeHeader, error) {
	return NodeArray{}, nil, SubtreeHeader{}, errMissing
}

// Close fails: this build has no library.
func (SubtreeDirectory) Close() error {
	return errMissing
}

// SubtreeRoot fails: this build has no library.
func SubtreeRoot(unsafe.Pointer, int, *[32]byte, uint32) ([32]byte, error) {
	return [32]byte{}, errMissing
}

// SubtreeRoots fails: this build has no library.
func SubtreeRoots([]unsafe.Pointer, []uintptr, [][32]byte) error {
	return errMissing
}

// MerkleRoot fails: this build has no library.
func MerkleRoot([]byte, uint32) ([32]byte, error) {
	return [32]byte{}, errMissing
}

// BlockRoot fails: this build has no library.
func BlockRoot([]byte, uint32, uint64) ([32]byte, error) {
	return [32]byte{}, errMissing
}

// FoldProof fails: this build has no library.
func FoldProof(*[32]byte, uint64, []byte) ([32]byte, error) {
	return [32]byte{}, errMissing
}

// NewMerkleLevels fails: this build has no library.
func NewMerkleLevels(Runtime, unsafe.Pointer, int, int, int, string) (MerkleLevels, error) {
	return MerkleLevels{}, errMissing
}

// Free fails: this build has no library.
func (MerkleLevels) Free() error {
	return errMissing
}

// Root fails: this build has no library.
func (MerkleLevels) Root() ([32]byte, error) {
	return [32]byte{}, errMissing
}

// Proof fails: this build has no library.
func (MerkleLevels) Proof(uint64, [][32]byte) (int, error) {
	return 0, errMissing
}

// SetLeaf fails: this build has no library.
func (MerkleLevels) SetLeaf(uint64, *[32]byte) error {
	return errMissing
}

// Append fails: this build has no library.
func (MerkleLevels) Append(unsafe.Pointer, int, int) error {
	return errMissing
}

// Remove fails: this build has no library.
func (MerkleLevels) Remove(uint64) error {
	return errMissing
}

// Proofs fails: this build has no library.
func (MerkleLevels) Proofs([]uint64, [][32]byte) (int, error) {
	return 0, errMissing
}

// VerifySubtree fails: this build has no library.
func VerifySubtree(*SubtreeHeader, unsafe.Pointer, int, []byte, uint32, *[32]byte) error {
	return errMissing
}

// Inspect fails: this build has no library.
func Inspect([]byte, uint32, bool) (SubtreeHeader, error) {
	return SubtreeHeader{}, errMissing
}

// Rotate fails: this build has no library.
func (TxMap) Rotate() (TxMap, error) {
	return TxMap{}, errMissing
}

// Freeze fails: this build has no library.
func (TxMap) Freeze() error {
	return errMissing
}

// IsFrozen fails: this build has no library.
func (TxMap) IsFrozen() (bool, error) {
	return false, errMissing
}

// Iterate fails: this build has no library.
func (TxMap) Iterate(bool) (Cursor, error) {
	return Cursor{}, errMissing
}

// Cursor cannot be made in this build.
type Cursor struct{}

// Next fails: this build has no library.
func (Cursor) Next(uint32, []byte, []byte, []Lookup) (int, int, error) {
	return 0, 0, errMissing
}

// Free has nothing to free.
func (Cursor) Free() error {
	return nil
}

// Transfer cannot be made in this build.
type Transfer struct{}

// NewTransfer fails: this build has no library.
func NewTransfer() (Transfer, error) {
	return Transfer{}, errMissing
}

// Step fails: this build has no library.
func (Transfer) Step(TxMap, TxMap, []byte, uint32, []byte) (bool, int, error) {
	return false, 0, errMissing
}

// Free has nothing to free.
func (Transfer) Free() error {
	return nil
}

// Compact fails: this build has no library.
func (TxMap) Compact() error {
	return errMissing
}

// SetCompaction fails: this build has no library.
func (TxMap) SetCompaction(string) error {
	return errMissing
}

// SetBackpressure fails: this build has no library.
func (TxMap) SetBackpressure(uint64, uint64, uint64) error {
	return errMissing
}

// Backpressure fails: this build has no library.
func (TxMap) Backpressure() (uint32, uint64, error) {
	return 0, 0, errMissing
}

// Check cannot be started in this build.
type Check struct{}

// StartCheck fails: this build has no library.
func StartCheck(string, string, uint64, uint32) (Check, error) {
	return Check{}, errMissing
}

// Free fails: this build has no library.
func (Check) Free() error {
	return errMissing
}

// Poll fails: this build has no library.
func (Check) Poll() (uint64, uint64, bool, error) {
	return 0, 0, false, errMissing
}

// Cancel fails: this build has no library.
func (Check) Cancel() error {
	return errMissing
}

// Result fails: this build has no library.
func (Check) Result() (CheckResult, error) {
	return CheckResult{}, errMissing
}

// Item fails: this build has no library.
func (Check) Item(uint32, int) (CheckItem, error) {
	return CheckItem{}, errMissing
}

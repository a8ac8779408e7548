// Package blocktier holds the state of block assembly and validation outside the Go heap, and on
// disk where it is cold.
//
// A [Runtime] is what a process has once: directories with one writer thread each, one memory
// budget, one stream of events. Package txmap makes transaction maps from it, package subtree makes
// node arrays and subtrees, and package settings reads the settings of a node. Both packages are
// generic over the node's own types, and both have an implementation on the Go heap that needs no
// Runtime.
//
// Builds without cgo and other platforms than linux/amd64 and linux/arm64 compile too: the heap
// implementations work there, [Open] fails with [ErrUnsupported].
//
// Everything that has a Close method must be closed. Forgotten objects are freed when the garbage
// collector finds them and reported to the logger, as a net and not as a way of working. A closed
// object returns [ErrClosed].
package blocktier

package workload

import (
	"crypto/sha3"
	"encoding/binary"
	"fmt"
)

// hashSize is the size of a txid in bytes.
const hashSize = 32

// chunkBytes is how much one SHAKE-128 call yields; part of the format, since the chunk number is
// hashed.
const chunkBytes = 1 << 20

// stream is an endless sequence of bytes: chunk k is SHAKE-128("seed|name|k"). A goroutine of its
// own squeezes the next chunks ahead of the reader. Not for concurrent use; stop ends the
// goroutine.
type stream struct {
	full, free chan []byte
	done       chan struct{}
	chunk      []byte
	at         int
}

func newStream(seed int64, name string) *stream {
	s := &stream{full: make(chan []byte, 1), free: make(chan []byte, 2), done: make(chan struct{})}
	s.free <- make([]byte, chunkBytes)
	s.free <- make([]byte, chunkBytes)
	go s.squeeze(seed, name)
	return s
}

func (s *stream) squeeze(seed int64, name string) {
	shake := sha3.NewSHAKE128()
	for k := uint64(0); ; k++ {
		var chunk []byte
		select {
		case chunk = <-s.free:
		case <-s.done:
			return
		}
		shake.Reset()
		fmt.Fprintf(shake, "%d|%s|%d", seed, name, k) // a hash never fails to be written
		_, _ = shake.Read(chunk)
		select {
		case s.full <- chunk:
		case <-s.done:
			return
		}
	}
}

// refill makes the next chunk current; the old one goes back to the goroutine.
func (s *stream) refill() {
	if s.chunk != nil {
		s.free <- s.chunk
	}
	s.chunk, s.at = <-s.full, 0
}

// uint16 yields the next two bytes, little-endian.
func (s *stream) uint16() uint32 {
	if s.at == len(s.chunk) {
		s.refill()
	}
	v := binary.LittleEndian.Uint16(s.chunk[s.at:])
	s.at += 2
	return uint32(v)
}

// hash yields the next 32 bytes.
func (s *stream) hash(out *[hashSize]byte) {
	if s.at == len(s.chunk) {
		s.refill()
	}
	*out = [hashSize]byte(s.chunk[s.at : s.at+hashSize])
	s.at += hashSize
}

func (s *stream) stop() { close(s.done) }

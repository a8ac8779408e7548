package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocktier/blocktier/go/txmap"
)

// Hash is a transaction id.
type Hash [32]byte

// Inpoints are the values.
type Inpoints = txmap.TxInpoints[Hash]

const (
	batchSize = 256
	// valueBytes is the length of an encoded value: 2 parents with 1 output each.
	valueBytes = 84
	// recordBytes is what an entry takes in the log: 12 bytes of header, key and value.
	recordBytes = 128
	defaultTail = 512 << 20
	// ring is how many different values there are; a key always has the same one. They are so few
	// because a node's value has just been made and is in the cache when it is inserted.
	ring = 64
	// pieceSize is how many keys a goroutine takes at a time.
	pieceSize = 64 * batchSize
)

func mix(z uint64) uint64 {
	z *= 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fillKeys makes the keys number first, first+1, ... of one endless sequence without repetition.
func fillKeys(keys []Hash, first int) {
	for i := range keys {
		for word := range 4 {
			binary.LittleEndian.PutUint64(keys[i][8*word:], mix(uint64(first+i)*4+uint64(word)+1))
		}
	}
}

func makeKeys(first, count int) []Hash {
	keys := make([]Hash, count)
	fillKeys(keys, first)
	return keys
}

func shuffle(keys []Hash) {
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
}

// values are the inpoints, decoded and encoded.
type values struct {
	decoded [ring]*Inpoints
	encoded [ring][]byte
}

func makeValues() (*values, error) {
	v := new(values)
	for i := range v.decoded {
		inpoints := new(Inpoints)
		for _, parent := range makeKeys(1<<40+2*i, 2) {
			inpoints.Add(parent, uint32(i))
		}
		encoded, err := txmap.TxInpointsCodec[Hash]{}.AppendValue(nil, inpoints)
		if err != nil {
			return nil, err
		}
		if len(encoded) != valueBytes {
			return nil, fmt.Errorf("a value of %d bytes; want %d", len(encoded), valueBytes)
		}
		v.decoded[i], v.encoded[i] = inpoints, encoded
	}
	return v, nil
}

// place is the number of a key's value.
func place(key *Hash) int { return int(binary.LittleEndian.Uint16(key[30:])) % ring }

// operation works on some keys and returns how many of them answered yes: inserted, found, removed.
type operation func(keys []Hash) (int, error)

// measure runs an operation on all keys. Threads, which are bound to CPUs, take the next piece when
// they have done one: the CPUs of a shared machine are not equally fast at every moment, and with
// equal shares the slowest one would be measured. The clock stops after finish.
// want is how many keys must answer yes.
func measure(threads int, keys []Hash, want int, newOp func() (operation, error),
	finish func() error) (time.Duration, error) {
	return measurePieces(pieceSize, threads, keys, want, newOp, finish)
}

// measurePieces is measure with pieces of another size.
func measurePieces(size, threads int, keys []Hash, want int, newOp func() (operation, error),
	finish func() error) (time.Duration, error) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	var taken atomic.Int64
	hits, failures := make([]int, threads), make([]error, threads)
	for thread := range threads {
		op, err := newOp()
		if err != nil {
			return 0, err
		}
		ready.Add(1)
		done.Go(func() {
			if threads <= runtime.NumCPU() {
				defer pin(thread)()
			}
			ready.Done()
			<-start
			for failures[thread] == nil {
				end := int(taken.Add(int64(size)))
				first := end - size
				if first >= len(keys) {
					return
				}
				hit, err := op(keys[first:min(end, len(keys))])
				hits[thread] += hit
				failures[thread] = err
			}
		})
	}
	ready.Wait()
	runtime.GC()
	began := time.Now()
	close(start)
	done.Wait()
	err := finish()
	took := time.Since(began)
	total := 0
	for thread := range threads {
		total += hits[thread]
		if failures[thread] != nil {
			return 0, failures[thread]
		}
	}
	if err == nil && total != want {
		err = fmt.Errorf("%d of %d keys answered yes; want %d", total, len(keys), want)
	}
	return took, err
}

// perMicrosecond is a rate in millions per second.
func perMicrosecond(count int, took time.Duration) float64 {
	return float64(count) / took.Seconds() / 1e6
}

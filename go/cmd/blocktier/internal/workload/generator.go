package workload

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

const (
	parentSlots  = 64      // external parents that are open at a time
	ringSize     = 1 << 14 // unspent outputs inside the workload
	outpointSize = hashSize + 4
	headSize     = hashSize + 2
	sampleMax    = 4096 // clean records kept per block, to be repeated or spent again
	samplesOld   = 8192 // and of earlier blocks
)

type outpoint [outpointSize]byte

// externalParent is a parent outside the workload: its next outputs, one after the other.
type externalParent struct {
	hash       [hashSize]byte
	vout, left uint32
}

// sample is an earlier clean record.
type sample struct {
	index uint64
	raw   []byte
}

// Record is one generated record with its ground truth.
type Record struct {
	Index uint64
	// Raw is valid until the next call of Next.
	Raw []byte
	// Duplicate: the record repeats record First.
	Duplicate bool
	First     uint64
	// Conflict: input Input was spent before by input FirstInput of record First. First == Index
	// means that the transaction names the same outpoint twice.
	Conflict          bool
	Input, FirstInput uint32
}

// Inputs returns how many inputs the record has.
func (r *Record) Inputs() int { return int(binary.LittleEndian.Uint16(r.Raw[hashSize:])) }

// Generator yields the records of a workload in order. Not for concurrent use. Close it.
type Generator struct {
	options         Options
	random, ids     *stream
	externals       *stream
	inputs, outputs *[tableSize]uint32
	fans, indexes   *[tableSize]uint32
	// Bounds of a 32-bit random number below which a record is a duplicate, a double spend, a
	// transaction with a repeated input.
	duplicateBelow, spendBelow, inputBelow uint64

	parents      [parentSlots]externalParent
	ring         [ringSize]outpoint
	unspent      [ringSize]bool
	head         uint32
	current, old []sample
	raw          []byte
	record       Record
	next         uint64
	heavy        heavyParent
	chain        chain
	summary      Summary
	block        *Block
}

// heavyParent spends every output of one transaction within one block.
type heavyParent struct {
	active, known bool
	id            [hashSize]byte
	spent         uint64
	perRecord     uint64
}

// chain makes every fourth record depend on the link before it.
type chain struct {
	left, wait uint64
	linked     bool
	previous   [hashSize]byte
}

// New starts a generator.
func New(options Options) (*Generator, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	scaled := func(share float64) uint64 { return uint64(share * (1 << 32)) }
	g := &Generator{
		options: options,
		random:  newStream(options.Seed, "rnd"),
		ids:     newStream(options.Seed, "tx"), externals: newStream(options.Seed, "ext"),
		inputs: table(inputCounts), outputs: table(outputCounts),
		fans: table(fanOuts), indexes: table(outputIndexes),
		raw: make([]byte, 0, headSize+1024*outpointSize),
	}
	g.duplicateBelow = scaled(options.DupTx)
	g.spendBelow = g.duplicateBelow + scaled(options.DupSpend)
	g.inputBelow = g.spendBelow + scaled(options.DupInput)
	g.summary.Args = options
	g.summary.Records = options.Txs
	for i := range g.parents {
		g.openParent(&g.parents[i])
	}
	return g, nil
}

// Close ends the generator's goroutines.
func (g *Generator) Close() {
	g.random.stop()
	g.ids.stop()
	g.externals.stop()
}

// Next yields the next record, or nil after the last one. An error says which options do not fit.
func (g *Generator) Next() (*Record, error) {
	i := g.next
	if i == g.options.Txs {
		if g.options.Heavy != 0 && g.heavy.spent < g.options.Heavy {
			return nil, fmt.Errorf("workload: %w", ErrHeavyBlock)
		}
		return nil, nil
	}
	g.next++
	g.record = Record{Index: i}
	g.raw = g.raw[:0]
	if i%g.options.BlockTxs == 0 {
		if err := g.openBlock(i); err != nil {
			return nil, err
		}
	} else if err := g.transaction(i); err != nil {
		return nil, err
	}
	g.record.Raw = g.raw
	g.summary.Bytes += uint64(len(g.raw))
	return &g.record, nil
}

// Summary returns the counts of what was generated up to now.
func (g *Generator) Summary() *Summary {
	g.summary.UniqueTxids = g.summary.Records - g.summary.DuplicateRecords
	return &g.summary
}

func (g *Generator) openParent(p *externalParent) {
	g.externals.hash(&p.hash)
	p.vout = g.indexes[g.random.uint16()]
	p.left = g.fans[g.random.uint16()]
}

// openBlock writes the coinbase of a new block and decides whether the heavy parent lives in it.
func (g *Generator) openBlock(i uint64) error {
	g.old = append(g.old, g.current...)
	if n := len(g.old); n > samplesOld {
		g.old = slices.Delete(g.old, 0, n-samplesOld)
	}
	g.current = nil
	g.summary.Blocks = append(g.summary.Blocks, Block{FirstRecord: i, Offset: g.summary.Bytes})
	g.block = &g.summary.Blocks[len(g.summary.Blocks)-1]
	var id [hashSize]byte
	g.ids.hash(&id)
	g.raw = append(append(g.raw, id[:]...), 0, 0)
	g.pushOutput(&id, 0)

	o := &g.options
	g.heavy.active = false
	room := int64(min(o.BlockTxs, o.Txs-i)) - 2
	if o.Heavy != 0 && i/o.BlockTxs == o.HeavyBlock && room > 0 {
		// So many inputs per record that 80 % of the block are enough for all outputs.
		part := uint64(room) * 8
		g.heavy = heavyParent{active: true, perRecord: (o.Heavy*10 + part - 1) / part}
		if g.heavy.perRecord > 60_000 {
			return fmt.Errorf("workload: %w", ErrHeavyBlock)
		}
	}
	return nil
}

func (g *Generator) transaction(i uint64) error {
	u := uint64(g.random.uint16())<<16 | uint64(g.random.uint16())
	due := g.heavy.active && g.heavy.known && g.heavy.spent < g.options.Heavy
	samples := len(g.current)+len(g.old) > 0
	if u < g.duplicateBelow && samples && !(due && g.heavy.perRecord > 1) {
		g.repeat(i)
	} else if err := g.fresh(i, u, samples); err != nil {
		return err
	}
	n := uint64(binary.LittleEndian.Uint16(g.raw[hashSize:]))
	g.summary.Inputs += n
	g.block.Inputs += n
	return nil
}

// pick takes a random earlier clean record: one of this block four times out of five. Those of
// earlier blocks are used once, which keeps the counts per block exact.
func (g *Generator) pick() sample {
	fromOld := len(g.old) > 0 && (len(g.current) == 0 || g.random.uint16() < 13_107)
	if !fromOld {
		return g.current[int(g.random.uint16())%len(g.current)]
	}
	k := int(g.random.uint16()) % len(g.old)
	s := g.old[k]
	last := len(g.old) - 1
	g.old[k] = g.old[last]
	g.old = g.old[:last]
	return s
}

func (g *Generator) repeat(i uint64) {
	s := g.pick()
	g.raw = append(g.raw, s.raw...)
	g.record.Duplicate, g.record.First = true, s.index
	g.summary.DuplicateRecords++
	g.block.Dup++
	if s.index >= g.block.FirstRecord {
		g.block.DupInBlock++
	}
}

// fresh writes a record of its own. The order of the random draws is part of the format.
func (g *Generator) fresh(i, u uint64, samples bool) error {
	var id [hashSize]byte
	g.ids.hash(&id)
	g.raw = append(append(g.raw, id[:]...), 0, 0)
	g.ordinaryInputs()
	firstOutput := g.chainLink(i, &id)
	isHeavy := g.heavyInputs(i, &id)
	if !isHeavy {
		outputs := min(g.outputs[g.random.uint16()], 16)
		for v := firstOutput; v < firstOutput+outputs; v++ {
			g.pushOutput(&id, v)
		}
	}
	if uint64(g.inputCount()) > g.options.MaxInputs {
		return fmt.Errorf("workload: record %d: %w", i, ErrTooManyInputs)
	}
	switch {
	case u >= g.duplicateBelow && u < g.spendBelow && samples:
		g.spendAgain()
	case u >= g.spendBelow && u < g.inputBelow:
		g.repeatInput(i)
	}
	n := g.inputCount()
	if n > 65_535 {
		return fmt.Errorf("workload: record %d: %w", i, ErrTooManyInputs)
	}
	binary.LittleEndian.PutUint16(g.raw[hashSize:], uint16(n))
	g.summary.MaxInputs = max(g.summary.MaxInputs, uint64(n))
	if !g.record.Conflict && u&7 == 0 {
		g.keep(i)
	}
	return nil
}

func (g *Generator) inputCount() int { return (len(g.raw) - headSize) / outpointSize }

func (g *Generator) ordinaryInputs() {
	for range g.inputs[g.random.uint16()] {
		x := g.random.uint16()
		if x < inBlockShare { // parent inside the workload, half of them very recent
			y := g.random.uint16()
			if x&1 == 1 {
				y = g.head - 1 - y&63
			}
			y &= ringSize - 1
			if g.unspent[y] {
				g.unspent[y] = false
				g.raw = append(g.raw, g.ring[y][:]...)
				continue
			}
		}
		p := &g.parents[x&(parentSlots-1)]
		g.addInput(&p.hash, p.vout)
		p.vout++
		p.left--
		if p.left == 0 {
			g.openParent(p)
		}
	}
}

func (g *Generator) addInput(parent *[hashSize]byte, vout uint32) {
	g.raw = append(g.raw, parent[:]...)
	g.raw = binary.LittleEndian.AppendUint32(g.raw, vout)
}

func (g *Generator) pushOutput(id *[hashSize]byte, vout uint32) {
	o := &g.ring[g.head]
	copy(o[:], id[:])
	binary.LittleEndian.PutUint32(o[hashSize:], vout)
	g.unspent[g.head] = true
	g.head = (g.head + 1) & (ringSize - 1)
}

// chainLink makes the record a link of the running chain if it is its turn, and returns the first
// output that is free for others (output 0 of a link belongs to the next one).
func (g *Generator) chainLink(i uint64, id *[hashSize]byte) uint32 {
	c := &g.chain
	if c.left == 0 {
		if g.options.ChainLen != 0 && i%g.options.ChainEvery == 1 {
			*c = chain{left: g.options.ChainLen}
			g.summary.Chains++
		}
		return 0
	}
	if c.wait != 0 {
		c.wait--
		return 0
	}
	if c.linked {
		g.addInput(&c.previous, 0)
	}
	c.previous, c.linked = *id, true
	c.left--
	c.wait = 3
	return 1
}

// heavyInputs makes the record the heavy parent (true), or lets it spend some of its outputs.
func (g *Generator) heavyInputs(i uint64, id *[hashSize]byte) bool {
	h, total := &g.heavy, g.options.Heavy
	if !h.active {
		return false
	}
	if !h.known {
		h.known, h.id = true, *id
		g.block.HeavyTxid = displayHex(id)
		g.block.HeavyRecord = new(i)
		return true
	}
	if h.spent >= total || (h.perRecord == 1 && g.random.uint16() >= 58_982) {
		return false
	}
	for range min(h.perRecord, total-h.spent) {
		v := h.spent
		if total&(total-1) == 0 {
			v = v * 40_503 % total
		}
		g.addInput(&h.id, uint32(v))
		h.spent++
	}
	if h.spent == total {
		g.block.HeavyLastRecord = new(i)
	}
	return false
}

// spendAgain puts an outpoint that an earlier record spent in front of the inputs.
func (g *Generator) spendAgain() {
	s := g.pick()
	m := uint32(binary.LittleEndian.Uint16(s.raw[hashSize:]))
	j := g.random.uint16() % m
	spent := s.raw[headSize+int(j)*outpointSize:][:outpointSize]
	g.raw = slices.Insert(g.raw, headSize, spent...)
	g.conflict(0, j, s.index)
}

// repeatInput names the first input once more at the end.
func (g *Generator) repeatInput(i uint64) {
	input := uint32(g.inputCount())
	g.raw = append(g.raw, g.raw[headSize:headSize+outpointSize]...)
	g.conflict(input, 0, i)
}

func (g *Generator) conflict(input, firstInput uint32, first uint64) {
	r := &g.record
	r.Conflict, r.Input, r.FirstInput, r.First = true, input, firstInput, first
	g.summary.Conflicts++
	g.block.Conf++
	if first >= g.block.FirstRecord {
		g.block.ConfInBlock++
	}
}

// keep remembers the record for later repetition.
func (g *Generator) keep(i uint64) {
	if len(g.current) < sampleMax {
		g.current = append(g.current, sample{i, slices.Clone(g.raw)})
		return
	}
	s := &g.current[g.random.uint16()&(sampleMax-1)]
	s.index, s.raw = i, append(s.raw[:0], g.raw...)
}

// displayHex is the hash in the reversed order in which hashes are shown.
func displayHex(hash *[hashSize]byte) string {
	reversed := *hash
	slices.Reverse(reversed[:])
	return hex.EncodeToString(reversed[:])
}

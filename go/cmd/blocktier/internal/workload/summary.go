package workload

// Summary counts what was generated. Its JSON is the stored description of a workload.
type Summary struct {
	Args             Options `json:"args"`
	Records          uint64  `json:"records"`
	UniqueTxids      uint64  `json:"unique_txids"`
	Bytes            uint64  `json:"bytes"`
	Inputs           uint64  `json:"inputs"`
	MaxInputs        uint64  `json:"max_inputs"`
	Chains           uint64  `json:"chains"`
	DuplicateRecords uint64  `json:"duplicate_records"`
	Conflicts        uint64  `json:"conflicts"`
	Blocks           []Block `json:"blocks"`
	SHA256           Digests `json:"sha256"`
}

// Block counts one block. The *_in_block counts are those whose first record lies in the same
// block: what a set sees that is cleared at every block.
type Block struct {
	FirstRecord     uint64  `json:"first_record"`
	Offset          uint64  `json:"offset"` // in bytes
	Dup             uint64  `json:"dup"`
	DupInBlock      uint64  `json:"dup_in_block"`
	Conf            uint64  `json:"conf"`
	ConfInBlock     uint64  `json:"conf_in_block"`
	Inputs          uint64  `json:"inputs"`
	HeavyTxid       string  `json:"heavy_txid,omitempty"`
	HeavyRecord     *uint64 `json:"heavy_record,omitempty"`
	HeavyLastRecord *uint64 `json:"heavy_last_record,omitempty"`
}

// Digests are the SHA-256 of the three binary files in hex; empty when no files were written.
type Digests struct {
	Rec  string `json:"rec"`
	Dup  string `json:"dup"`
	Conf string `json:"conf"`
}

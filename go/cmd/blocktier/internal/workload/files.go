package workload

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"
)

// Files creates the four files of a workload by suffix; what it returns is closed when complete.
type Files func(suffix string) (io.WriteCloser, error)

// Prefix creates the files PREFIX.rec, PREFIX.dup, PREFIX.conf and PREFIX.json. Use it with a
// prefix in a directory of its own: what was written stays when generating fails.
func Prefix(prefix string) Files {
	return func(suffix string) (io.WriteCloser, error) { return os.Create(prefix + suffix) }
}

// WriteFiles generates the workload into four files and returns its summary with the digests:
//
//	.rec   the records
//	.dup   16 bytes each: record u64 | first record u64
//	.conf  24 bytes each: record u64 | input u32 | first input u32 | first record u64
//	.json  the summary
//
// progress, if not nil, is called now and then with the number of records made. When ctx ends,
// WriteFiles stops with its error; removing the files is the caller's business.
func WriteFiles(ctx context.Context, o Options, files Files, progress func(uint64)) (*Summary,
	error) {
	g, err := New(o)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	outs := make([]*digestFile, 0, 3)
	defer func() {
		for _, f := range outs {
			_ = f.file.Close() // an error path: complete files were closed and checked before
		}
	}()
	for _, suffix := range []string{".rec", ".dup", ".conf"} {
		f, err := newDigestFile(files, suffix)
		if err != nil {
			return nil, err
		}
		outs = append(outs, f)
	}
	if err := writeRecords(ctx, g, outs[0], outs[1], outs[2], progress); err != nil {
		return nil, err
	}
	s := g.Summary()
	for i, to := range []*string{&s.SHA256.Rec, &s.SHA256.Dup, &s.SHA256.Conf} {
		if err := outs[i].complete(); err != nil {
			return nil, err
		}
		*to = hex.EncodeToString(outs[i].digest.Sum(nil))
	}
	outs = nil
	return s, writeSummary(files, s)
}

func writeRecords(ctx context.Context, g *Generator, rec, dup, conf io.Writer,
	progress func(uint64)) error {
	var entry [24]byte
	for {
		r, err := g.Next()
		if err != nil {
			return err
		}
		if r == nil {
			return nil
		}
		if r.Index&(1<<14-1) == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if progress != nil {
				progress(r.Index)
			}
		}
		_, err = rec.Write(r.Raw)
		binary.LittleEndian.PutUint64(entry[:], r.Index)
		switch {
		case r.Duplicate:
			binary.LittleEndian.PutUint64(entry[8:], r.First)
			_, e := dup.Write(entry[:16])
			err = errors.Join(err, e)
		case r.Conflict:
			binary.LittleEndian.PutUint32(entry[8:], r.Input)
			binary.LittleEndian.PutUint32(entry[12:], r.FirstInput)
			binary.LittleEndian.PutUint64(entry[16:], r.First)
			_, e := conf.Write(entry[:])
			err = errors.Join(err, e)
		}
		if err != nil {
			return err
		}
	}
}

func writeSummary(files Files, s *Summary) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	f, err := files(".json")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// digestFile is a buffered file whose bytes are hashed on their way.
type digestFile struct {
	file   io.WriteCloser
	digest hash.Hash
	buffer *bufio.Writer
}

func newDigestFile(files Files, suffix string) (*digestFile, error) {
	f, err := files(suffix)
	if err != nil {
		return nil, err
	}
	d := &digestFile{file: f, digest: sha256.New()}
	d.buffer = bufio.NewWriterSize(io.MultiWriter(f, d.digest), 1<<20)
	return d, nil
}

func (d *digestFile) Write(p []byte) (int, error) { return d.buffer.Write(p) }

func (d *digestFile) complete() error {
	return errors.Join(d.buffer.Flush(), d.file.Close())
}

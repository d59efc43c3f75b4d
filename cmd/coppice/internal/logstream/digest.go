package logstream

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Version is the version of the format that this package writes, and the newest that it reads.
const Version = 1

// digest computes the digest in ExportEnd.
type digest struct {
	hash hash.Hash
	buf  []byte
}

func newDigest() digest { return digest{hash: sha256.New()} }

func (d *digest) record(r *logv1.ExportRecord) {
	b := append(d.buf[:0], 'R')
	b = binary.LittleEndian.AppendUint64(b, r.Index)
	b = append(b, byte(r.Kind))
	d.tail(b, r.Data)
}

func (d *digest) gap(g *logv1.ExportGap) {
	b := append(d.buf[:0], 'G')
	b = binary.LittleEndian.AppendUint64(b, g.First)
	b = binary.LittleEndian.AppendUint64(b, g.Count)
	d.tail(b, []byte(g.Reason))
}

func (d *digest) tail(head, data []byte) {
	d.buf = binary.LittleEndian.AppendUint32(head, uint32(len(data)))
	d.hash.Write(d.buf)
	d.hash.Write(data)
}

func (d *digest) sum() []byte { return d.hash.Sum(nil) }

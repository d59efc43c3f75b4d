package chain

import (
	"cmp"
	"encoding/binary"
	"fmt"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Version is a transaction's place in the one order that all nodes share: periods first, then
// heights, then the place in the block. Periods come first so that a reset to height 1 collides
// with nothing.
type Version struct {
	Period uint64
	Height uint64
	Index  uint32 // from 0
}

// VersionSize is the length of an encoded Version in bytes.
const VersionSize = 20

// Compare orders versions: negative when v comes before w, zero when they are the same place.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Period, w.Period), cmp.Compare(v.Height, w.Height), cmp.Compare(v.Index, w.Index))
}

// AppendBinary appends the VersionSize big-endian bytes whose order is Compare's.
func (v Version) AppendBinary(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, v.Period)
	b = binary.BigEndian.AppendUint64(b, v.Height)
	return binary.BigEndian.AppendUint32(b, v.Index)
}

// DecodeVersion reads what AppendBinary wrote.
func DecodeVersion(b []byte) (Version, error) {
	if len(b) != VersionSize {
		return Version{}, fmt.Errorf("version: %d bytes, want %d", len(b), VersionSize)
	}
	return Version{
		Period: binary.BigEndian.Uint64(b),
		Height: binary.BigEndian.Uint64(b[8:]),
		Index:  binary.BigEndian.Uint32(b[16:]),
	}, nil
}

// String prints period/height/index.
func (v Version) String() string { return fmt.Sprintf("%d/%d/%d", v.Period, v.Height, v.Index) }

// Proto returns v as it stands in records.
func (v Version) Proto() *logv1.Version {
	return &logv1.Version{Period: v.Period, Height: v.Height, Index: v.Index}
}

// VersionFromProto reads a record's version; nil is the zero Version.
func VersionFromProto(p *logv1.Version) Version {
	return Version{Period: p.GetPeriod(), Height: p.GetHeight(), Index: p.GetIndex()}
}

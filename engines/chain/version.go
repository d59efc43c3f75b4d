package chain

import (
	"cmp"
	"encoding/binary"
	"fmt"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Version is a transaction's place in the one order that all nodes share: by period, then by
// height, then by the place in the block. The period comes first, so that a chain that is reset to
// height 1 does not use a version twice.
type Version struct {
	Period uint64
	Height uint64
	Index  uint32 // from 0
}

// VersionSize is the length of an encoded Version in bytes.
const VersionSize = 20

// Compare returns a negative number if v comes before w, a positive one if it comes after w, and
// zero if they are the same place.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Period, w.Period), cmp.Compare(v.Height, w.Height), cmp.Compare(v.Index, w.Index))
}

// AppendBinary appends v to b as VersionSize big-endian bytes. Compared as bytes, encoded versions
// have the same order as with Compare.
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

// String returns v as period/height/index.
func (v Version) String() string { return fmt.Sprintf("%d/%d/%d", v.Period, v.Height, v.Index) }

// Proto returns v as the message that records carry.
func (v Version) Proto() *logv1.Version {
	return &logv1.Version{Period: v.Period, Height: v.Height, Index: v.Index}
}

// VersionFromProto returns the version in a record's message; for nil it returns the zero Version.
func VersionFromProto(p *logv1.Version) Version {
	return Version{Period: p.GetPeriod(), Height: p.GetHeight(), Index: p.GetIndex()}
}

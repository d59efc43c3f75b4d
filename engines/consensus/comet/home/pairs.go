package home

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// The pairs of a database, one after the other:
//
//	magic | pair … | 0 uvarint | number of pairs u64 | SHA-256 of everything before
//	pair = length of the key uvarint | key | length of the value uvarint | value
//
// No key is empty. The end is part of the format, so that a reader tells a whole copy from one that
// was cut short, and several copies can follow each other.
const (
	pairsMagic = "coppice pairs 1\n"

	maxKey   = 1 << 20
	maxValue = 1 << 30
)

// errPairs is the error for bytes that are no copy of a database.
var errPairs = errors.New("it is not a whole copy of a database")

// pairWriter writes the pairs of a database.
type pairWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	out io.Writer // to both
	n   uint64
	err error
}

func newPairWriter(to io.Writer) *pairWriter {
	p := &pairWriter{w: bufio.NewWriterSize(to, 64<<10), sum: sha256.New()}
	p.out = io.MultiWriter(p.w, p.sum)
	p.write([]byte(pairsMagic))
	return p
}

func (p *pairWriter) write(b []byte) {
	if p.err == nil {
		_, p.err = p.out.Write(b)
	}
}

func (p *pairWriter) length(n int) { p.write(binary.AppendUvarint(nil, uint64(n))) }

// put writes a pair.
func (p *pairWriter) put(key, value []byte) error {
	p.length(len(key))
	p.write(key)
	p.length(len(value))
	p.write(value)
	p.n++
	return p.err
}

// end writes the end of the copy.
func (p *pairWriter) end() error {
	p.length(0)
	p.write(binary.BigEndian.AppendUint64(nil, p.n))
	p.write(p.sum.Sum(nil))
	return errors.Join(p.err, p.w.Flush())
}

// pairReader reads what a pairWriter has written.
type pairReader struct {
	r   *bufio.Reader
	sum hash.Hash
	n   uint64
}

// readPairs calls each with the pairs of one copy. It reads no byte after the copy's end. A key and
// a value are valid only during the call. If the copy was cut short or changed, the error wraps
// errPairs.
func readPairs(r *bufio.Reader, each func(key, value []byte) error) error {
	p := &pairReader{r: r, sum: sha256.New()}
	var key, value bytes.Buffer

	if err := p.bytes(&key, uint64(len(pairsMagic)), maxKey); err != nil {
		return err
	}
	if key.String() != pairsMagic {
		return fmt.Errorf("%w: it begins with %.20q, want %q", errPairs, key.String(), pairsMagic)
	}

	for {
		n, err := binary.ReadUvarint(p)
		if err != nil {
			return cut(err)
		}
		if n == 0 {
			return p.end()
		}
		if err := p.bytes(&key, n, maxKey); err != nil {
			return err
		}

		if n, err = binary.ReadUvarint(p); err != nil {
			return cut(err)
		}
		if err := p.bytes(&value, n, maxValue); err != nil {
			return err
		}

		p.n++
		if err := each(key.Bytes(), value.Bytes()); err != nil {
			return err
		}
	}
}

// ReadByte implements io.ByteReader.
func (p *pairReader) ReadByte() (byte, error) {
	b, err := p.r.ReadByte()
	if err == nil {
		p.sum.Write([]byte{b})
	}
	return b, err
}

// bytes reads n bytes. It takes no memory for bytes that do not come.
func (p *pairReader) bytes(to *bytes.Buffer, n, most uint64) error {
	if n > most {
		return fmt.Errorf("%w: %d bytes in one piece, want at most %d", errPairs, n, most)
	}

	to.Reset()
	if _, err := io.CopyN(io.MultiWriter(to, p.sum), p.r, int64(n)); err != nil {
		return cut(err)
	}
	return nil
}

// end reads the end of a copy.
func (p *pairReader) end() error {
	var count, sum bytes.Buffer
	if err := p.bytes(&count, 8, 8); err != nil {
		return err
	}
	want := p.sum.Sum(nil)
	if err := p.bytes(&sum, sha256.Size, sha256.Size); err != nil {
		return err
	}

	if n := binary.BigEndian.Uint64(count.Bytes()); n != p.n || !bytes.Equal(sum.Bytes(), want) {
		return fmt.Errorf("%w: it has %d pairs with digest %x, want %d with %x", errPairs, p.n, want, n, sum.Bytes())
	}
	return nil
}

// cut returns err as the error of a copy that was cut short, if it is the end of what is read.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it was cut short", errPairs)
	}
	return err
}

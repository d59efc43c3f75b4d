package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/coppice-go/coppice/engines/streams"
)

var table = crc32.MakeTable(crc32.Castagnoli)

// crcField is what stands before the checksum of a line, and crcEnd its length with what follows.
const (
	crcField = `,"crc":"`
	crcEnd   = len(crcField) + 8 + len(`"}`)
)

// mark is what a line holds besides an event: all that recovery needs of it. A head line has Head,
// a claim has Claim, and the line of an End has Synced.
type mark struct {
	Seq    uint64          `json:"seq"`
	Head   uint64          `json:"head,omitempty"`  // number of the file
	Whole  bool            `json:"whole,omitempty"` // of a head: all of the file counts, also without an End
	Claim  string          `json:"claim,omitempty"` // who claims
	Epoch  uint64          `json:"epoch,omitempty"`
	Cursor *streams.Cursor `json:"cursor,omitempty"` // of the sink when the file was begun

	// Synced is an offset of the file up to which everything was durable when the line was written.
	Synced int64 `json:"synced,omitempty"`
}

// appendMark appends a line with a mark.
func appendMark(b []byte, m mark) []byte {
	start := len(b)
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // of our own types
	}
	return seal(append(b, text[:len(text)-1]...), start)
}

// appendEvent appends the line of an event. synced counts for an End only.
func appendEvent(b []byte, seq uint64, e streams.Event, synced int64) []byte {
	start := len(b)
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, seq, 10)

	at := len(b)
	b = streams.AppendJSONFields(b, e)
	b[at] = ',' // the envelope's opening brace
	if e.Body.Kind() == streams.KindEnd {
		b = append(b, `,"synced":`...)
		b = strconv.AppendInt(b, synced, 10)
	}

	return seal(b, start)
}

const hexDigits = "0123456789abcdef"

// seal ends the line that begins at start with its checksum.
func seal(b []byte, start int) []byte {
	crc := crc32.Checksum(b[start:], table)
	b = append(b, crcField...)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[crc>>shift&15])
	}
	return append(b, '"', '}', '\n')
}

// errLine means that a line is not whole.
var errLine = errors.New("bad line")

// check returns an error if the checksum of a line, given without its newline, is wrong.
func check(line []byte) error {
	n := len(line) - crcEnd
	if n < 0 || !bytes.HasPrefix(line[n:], []byte(crcField)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return fmt.Errorf("%w: no checksum at its end", errLine)
	}

	want, err := strconv.ParseUint(string(line[n+len(crcField):len(line)-2]), 16, 32)
	if err != nil {
		return fmt.Errorf("%w: %w", errLine, err)
	}
	if got := crc32.Checksum(line[:n], table); got != uint32(want) {
		return fmt.Errorf("%w: checksum %08x, want %08x", errLine, got, want)
	}

	return nil
}

// isEvent reports whether a line holds an event, and not a mark.
func isEvent(line []byte) bool {
	i := bytes.IndexByte(line, ',')
	return i >= 0 && bytes.HasPrefix(line[i:], []byte(`,"v":`))
}

// isEnd reports whether a line holds an End. The field is the only one of that name and value: in
// texts, double quotes are escaped.
func isEnd(line []byte) bool {
	return isEvent(line) && bytes.Contains(line[:min(len(line), 512)], []byte(`,"kind":"end"`))
}

package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
)

// ErrFile means that a file does not hold a history, or is damaged.
var ErrFile = errors.New("no history of a log")

// file is the content of data/history.json.
type file struct {
	History
	Sum string `json:"sum"` // CRC-32C of the file with an empty sum
}

// Path returns the path of the history of a home's log.
func Path(home string) string { return filepath.Join(home, "data", "history.json") }

// Read reads the history of a home's log. Errors are fs.ErrNotExist, ErrFile and those of the file
// system.
func Read(home string) (*History, error) {
	data, err := os.ReadFile(Path(home))
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse parses the content of a file. Errors are ErrFile.
func Parse(data []byte) (*History, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}

	for i, e := range f.Eras {
		if e.ID == "" || i > 0 && e.After <= f.Eras[i-1].After {
			return nil, fmt.Errorf("%w: era %d (%q, after %d) is not in order", ErrFile, i+1, e.ID, e.After)
		}
	}
	if !bytes.Equal(data, f.JSON()) {
		return nil, fmt.Errorf("%w: its checksum is not %s", ErrFile, f.Sum)
	}

	return &f.History, nil
}

// JSON returns the content of a file with this history. A nil History gives nil.
func (h *History) JSON() []byte {
	if h == nil {
		return nil
	}

	encode := func(sum string) []byte {
		data, err := json.MarshalIndent(file{*h, sum}, "", "  ")
		if err != nil {
			panic(err) // strings and numbers have a form in JSON
		}
		return append(data, '\n')
	}

	return encode(fmt.Sprintf("%08x", crc32.Checksum(encode(""), crc32.MakeTable(crc32.Castagnoli))))
}

// Write makes h the history of a home's log, durably.
func (h *History) Write(home string) error { return durable.OS.Replace(Path(home), h.JSON(), 0o600) }

package snapshots

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
)

// manifestName is the name of the file that makes a directory a snapshot.
const manifestName = "snapshot.json"

// formatVersion is the version of the manifest's layout that this program reads and writes.
const formatVersion = 1

// Manifest describes a snapshot.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"` // period-height-index; its directory's name
	ChainID   string    `json:"chain_id"`
	Period    uint64    `json:"period"`
	Height    uint64    `json:"height"`
	AppHash   Hex       `json:"app_hash"`
	StateRoot Hex       `json:"state_root"` // see storage.DB.Root
	Keys      uint64    `json:"keys"`
	IDs       uint64    `json:"ids"`
	LogID     Hex       `json:"log_id"` // of the event log that the state was made from
	Index     uint64    `json:"index"`  // of the last record of that log in the state
	Created   time.Time `json:"created"`
	Program   string    `json:"program"`          // and version
	Source    string    `json:"source,omitempty"` // where the snapshot came from, if it was not taken here
	Bytes     int64     `json:"bytes"`
	Files     []File    `json:"files"`
}

// File is one file of a snapshot.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 Hex    `json:"sha256"`
}

// Hex holds bytes that are written in hexadecimal.
type Hex []byte

// MarshalText writes b in hexadecimal.
func (b Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText reads hexadecimal.
func (b *Hex) UnmarshalText(text []byte) error {
	v, err := hex.DecodeString(string(text))
	*b = v
	return err
}

// String prints b in hexadecimal.
func (b Hex) String() string { return hex.EncodeToString(b) }

func (m Manifest) id() string { return ID(m.Period, m.Height, m.Index) }

// ID returns the id of the snapshot with that period, height and index.
func ID(period, height, index uint64) string { return fmt.Sprintf("%d-%d-%d", period, height, index) }

// same reports whether m and o are of the same state. Their files may differ.
func (m Manifest) same(o Manifest) bool {
	return m.ChainID == o.ChainID && m.Period == o.Period && m.Height == o.Height &&
		bytes.Equal(m.AppHash, o.AppHash) && bytes.Equal(m.StateRoot, o.StateRoot)
}

// Hash returns a hash that identifies the state of m: SHA-256 over chain, period, height, app hash
// and state root.
func (m Manifest) Hash() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "coppice snapshot\x00%d %s %d %d %x %x", len(m.ChainID), m.ChainID, m.Period, m.Height,
		[]byte(m.AppHash), []byte(m.StateRoot))
	return h.Sum(nil)
}

func (m Manifest) encode() []byte {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err) // numbers, strings and bytes
	}
	return append(b, '\n')
}

// ParseManifest parses a manifest. An unknown key is an error. Each error is an ErrDamaged.
func ParseManifest(data []byte) (m Manifest, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()

	switch err := d.Decode(&m); {
	case err != nil:
		return m, fmt.Errorf("%w: %s: %w", ErrDamaged, manifestName, chain.JSONError(err))
	case m.Format != formatVersion:
		return m, fmt.Errorf("%w: %s: format %d, want %d", ErrDamaged, manifestName, m.Format, formatVersion)
	case m.ID != m.id():
		return m, fmt.Errorf("%w: %s: id %q, want %q by its period, height and index", ErrDamaged, manifestName,
			m.ID, m.id())
	}

	return m, nil
}

// Errors of this package. Each is returned wrapped in an error that says what is wrong, where, and
// what was expected.
var (
	// ErrDamaged: a snapshot is not as it was written.
	ErrDamaged = errors.New("the snapshot is damaged")

	// ErrNone: there is no snapshot with that id, or no snapshot at all.
	ErrNone = errors.New("no such snapshot")

	// ErrExists: there is already a snapshot with that id.
	ErrExists = errors.New("a snapshot with that id already exists")
)

package streams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coppice-go/coppice/internal/durable"
)

// slotFile is this node's durable record of a slot: data/streams/slots/NAME.json.
type slotFile struct {
	Version int    `json:"version"` // 1
	Name    string `json:"name"`

	// Definition is the hash of the definition that the sink's data follow.
	Definition string `json:"definition"`

	LogID string `json:"log_id"` // of the log in which Floor counts
	Floor uint64 `json:"floor"`  // index of the oldest record that the slot needs

	// Versions is the oldest position of the state that the slot needs, for values before changes;
	// nil: it needs none.
	Versions *Position `json:"versions,omitempty"`

	Acked  Cursor    `json:"acked"`             // where the sink stands
	Passed *Cursor   `json:"passed,omitempty"`  // up to where the filter has left nothing since
	At     time.Time `json:"at,omitzero"`       // time of the block at which the slot stands
	Acks   time.Time `json:"acked_at,omitzero"` // when it came to stand there, by this node's clock
	Epoch  uint64    `json:"epoch"`             // the newest that this node has claimed

	// Claiming is an epoch that this node was about to claim when it wrote the file; 0: none.
	Claiming uint64 `json:"claiming,omitempty"`

	State State  `json:"state"`
	First *Cause `json:"first_cause,omitempty"` // since the slot was live
	Last  *Cause `json:"last_cause,omitempty"`

	Paused   bool      `json:"paused,omitempty"`
	TakeOver bool      `json:"take_over,omitempty"` // an operator wants this node to write
	Exempt   time.Time `json:"exempt_until,omitzero"`
	Lost     bool      `json:"lost,omitempty"`
	History  []Act     `json:"history,omitempty"`

	Redefined *redefinition  `json:"redefined,omitempty"` // the newest; nil: there was none
	Bootstrap *bootstrapping `json:"bootstrap,omitempty"` // nil: none is under way
}

// Cause is why a slot does not deliver.
type Cause struct {
	Class Class     `json:"class"`
	Text  string    `json:"text"`
	Time  time.Time `json:"time"`
}

// Act is what an operator did to a slot.
type Act struct {
	Time time.Time `json:"time"`
	What string    `json:"what"`
	By   string    `json:"by,omitempty"`
	From string    `json:"from,omitempty"` // what was before
}

// maxHistory is how many acts a slot file keeps.
const maxHistory = 100

// errSlotFile means that a slot file cannot be read. Nothing of the log is removed then.
var errSlotFile = errors.New("slot file cannot be read")

func slotPath(dir, name string) string { return filepath.Join(dir, "slots", name+".json") }

// readSlots returns the slot files below dir, by name, and an error for what cannot be read.
func readSlots(dir string) (map[string]slotFile, error) {
	slots := make(map[string]slotFile)
	entries, err := os.ReadDir(filepath.Join(dir, "slots"))
	if errors.Is(err, fs.ErrNotExist) {
		return slots, nil
	}
	if err != nil {
		return slots, fmt.Errorf("%w: %w", errSlotFile, err)
	}

	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		f, err := readSlot(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		slots[name] = f
	}

	return slots, errors.Join(errs...)
}

func readSlot(dir, name string) (slotFile, error) {
	path := slotPath(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return slotFile{}, fmt.Errorf("%w: %w", errSlotFile, err)
	}

	var f slotFile
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&f); err != nil {
		return slotFile{}, fmt.Errorf("%w: %s: %w", errSlotFile, path, err)
	}
	if f.Version != 1 || f.Name != name {
		return slotFile{}, fmt.Errorf("%w: %s: version %d of slot %q, want version 1 of %q", errSlotFile, path,
			f.Version, f.Name, name)
	}

	return f, nil
}

// write makes the file durable.
func (f slotFile) write(dir string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}

	path := slotPath(dir, f.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.OS.Replace(path, append(b, '\n'), 0o600)
}

// stands returns the cursor up to which nothing is left to deliver.
func (f slotFile) stands() Cursor {
	if f.Passed != nil {
		return *f.Passed
	}
	return f.Acked
}

func (f *slotFile) record(a Act) {
	f.History = append(f.History, a)
	if n := len(f.History); n > maxHistory {
		f.History = f.History[n-maxHistory:]
	}
}

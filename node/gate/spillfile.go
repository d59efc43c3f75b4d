package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
)

// spillFile is the form of gates.json in the directory of the streams. It has the spills under way,
// so that a restart of the process gives none of them a new budget.
type spillFile struct {
	Version int                `json:"version"` // 1
	Spills  map[string]Spilled `json:"spills"`  // by gate
}

func spillPath(dir string) string { return filepath.Join(dir, "gates.json") }

// readSpills returns the spills under way. A file that does not exist has none.
func readSpills(dir string) (map[string]Spilled, error) {
	path := spillPath(dir)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	var f spillFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("%s: version %d, want 1", path, f.Version)
	}

	return f.Spills, nil
}

// writeSpill makes the spill of a gate durable, with those of the others. The caller holds looking.
func (g *Gates) writeSpill(gate string, s Spilled) error {
	f := spillFile{Version: 1, Spills: make(map[string]Spilled)}
	for _, at := range g.list() {
		if spill := at.state.Spilling; !spill.Since.IsZero() {
			f.Spills[at.Name] = spill
		}
	}
	if delete(f.Spills, gate); !s.Since.IsZero() {
		f.Spills[gate] = s
	}

	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.o.Data, 0o700); err != nil {
		return err
	}
	return durable.OS.Replace(spillPath(g.o.Data), append(b, '\n'), 0o600)
}

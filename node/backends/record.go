package backends

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
)

// FileName is the name of the record in a home.
const FileName = "backends.json"

// Need is a backend that the chain of a home needs.
type Need struct {
	Name    string `json:"name"`
	Oldest  uint32 `json:"oldest"`            // the lowest version that may have executed transactions
	Newest  uint32 `json:"newest"`            // the highest
	Program string `json:"program,omitempty"` // the program that had it last; empty: unknown
}

// Record is what a home needs: one Need for each backend, sorted by name.
type Record []Need

// file is the content of the file FileName.
type file struct {
	Backends Record `json:"backends"`
}

// Path returns the path of a home's record.
func Path(home string) string { return filepath.Join(home, FileName) }

// Of returns the record of a program with these backends.
func Of(have map[string]chain.Backend) Record {
	r := make(Record, 0, len(have))
	for _, name := range slices.Sorted(maps.Keys(have)) {
		oldest, newest := chain.BackendVersions(have[name])
		r = append(r, Need{name, oldest, newest, filepath.Base(os.Args[0])})
	}
	return r
}

// Read returns the record of a home. If the home has none, the error is fs.ErrNotExist. The error
// for a file that is no record is exit.ErrDamage.
func Read(home string) (Record, error) {
	data, err := os.ReadFile(Path(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return Parse(Path(home), data)
}

// Parse parses the content of the file at path. The path is used in errors only, which are
// exit.ErrDamage.
func Parse(path string, data []byte) (Record, error) {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s is no record of backends: %w: remove it, and the next start makes it again from "+
			"the log", exit.ErrDamage, path, fmt.Errorf(format, args...))
	}

	var f file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, damaged("%w", chain.JSONError(err))
	}
	if rest := bytes.TrimSpace(data[d.InputOffset():]); len(rest) > 0 {
		return nil, damaged("something follows at byte %d", d.InputOffset())
	}

	for i, n := range f.Backends {
		if n.Name == "" || n.Oldest == 0 || n.Newest < n.Oldest || i > 0 && n.Name <= f.Backends[i-1].Name {
			return nil, damaged("entry %d (%q, versions %d to %d): want names in ascending order, each with versions "+
				"from 1", i+1, n.Name, n.Oldest, n.Newest)
		}
	}

	return f.Backends, nil
}

// JSON returns the content of the file. An empty record gives nil.
func (r Record) JSON() []byte {
	if len(r) == 0 {
		return nil
	}
	data, err := json.MarshalIndent(file{r}, "", "  ")
	if err != nil {
		panic(err) // strings and numbers have a form in JSON
	}
	return append(data, '\n')
}

// Write makes r the record of a home, durably.
func (r Record) Write(home string) error {
	return durable.OS.Replace(Path(home), r.JSON(), 0o644)
}

// Union returns the backends that either record needs.
func (r Record) Union(other Record) Record {
	by := make(map[string]Need)
	for _, n := range slices.Concat(r, other) {
		if was, ok := by[n.Name]; ok {
			n.Oldest, n.Newest = min(n.Oldest, was.Oldest), max(n.Newest, was.Newest)
			if n.Oldest == was.Oldest && n.Newest == was.Newest && was.Program != "" {
				n.Program = was.Program
			}
		}
		by[n.Name] = n
	}

	return slices.SortedFunc(maps.Values(by), func(a, b Need) int { return strings.Compare(a.Name, b.Name) })
}

// Check returns exit.ErrConfig if a program with these backends cannot execute what the chain of
// the home has executed. The error names each backend that the program lacks, or has in other
// versions, or that has a hook (chain.BlockBackend) and was not there when the chain began.
func (r Record) Check(home string, have map[string]chain.Backend) error {
	var lacks []string
	program := ""

	for _, n := range r {
		b, ok := have[n.Name]
		if !ok {
			lacks = append(lacks, fmt.Sprintf("no backend %q (%s)", n.Name, versions(n.Oldest, n.Newest)))
		} else if oldest, newest := chain.BackendVersions(b); oldest > n.Oldest || newest < n.Newest {
			lacks = append(lacks, fmt.Sprintf("backend %q in %s, not in %s", n.Name, versions(oldest, newest),
				versions(n.Oldest, n.Newest)))
		} else {
			continue
		}
		program = n.Program
	}

	if len(lacks) == 0 {
		return r.checkHooks(home, have)
	}

	which := "the program that has them"
	if program != "" {
		which += ", as " + program + " did"
	}

	return fmt.Errorf("%w: the chain of home %s needs transaction backends that this program lacks: it has %s. "+
		"Nothing is damaged and nothing was changed. Use %s, for this and for every other command that executes "+
		"transactions",
		exit.ErrConfig, home, strings.Join(lacks, ", and "), which)
}

// checkHooks returns exit.ErrConfig if one of the backends acts at the end of every block, and the
// chain of the home has blocks without it. A home that was never started has no record.
func (r Record) checkHooks(home string, have map[string]chain.Backend) error {
	for _, b := range chain.BlockBackends(have) {
		if len(r) > 0 && !slices.ContainsFunc(r, func(n Need) bool { return n.Name == b.Name() }) {
			return fmt.Errorf("%w: the backend %q of this program acts at the end of every block, and the chain of "+
				"home %s has begun without it. Nothing was changed. Begin a new chain with it, or leave it out",
				exit.ErrConfig, b.Name(), home)
		}
	}
	return nil
}

func versions(oldest, newest uint32) string {
	if oldest == newest {
		return fmt.Sprintf("version %d", oldest)
	}
	return fmt.Sprintf("versions %d to %d", oldest, newest)
}

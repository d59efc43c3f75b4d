package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// FileName is the name of the file of gates, next to the definitions of the sinks.
const FileName = "gates.toml"

// ErrFile is wrapped by the errors of a file of gates, which name file, line and column.
var ErrFile = errors.New("file of gates")

// Read returns the gates of a file, in its order. A file that does not exist has none. sinks say
// which sinks there are. Read returns all problems of the file.
func Read(path string, sinks Sinks) ([]Gate, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return Parse(path, text, sinks)
}

// Parse returns the gates of text, the content of the file at path.
func Parse(path string, text []byte, sinks Sinks) ([]Gate, error) {
	f := &file{path: path}

	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		syntax := new(toml.DecodeError)
		if errors.As(err, &syntax) {
			line, column := syntax.Position()
			f.bad(place{line, column}, "%s", strings.TrimPrefix(err.Error(), "toml: "))
		} else {
			f.bad(place{}, "%s", strings.TrimPrefix(err.Error(), "toml: "))
		}
		return nil, f.err()
	}

	f.locate(text)
	f.unknown(tree)

	var gates []Gate
	for i, t := range f.tables(tree) {
		at := table{file: f, index: i}
		g := at.gate(t, sinks)
		if slices.ContainsFunc(gates, func(o Gate) bool { return o.Name == g.Name }) {
			at.bad("name", "%q is the name of an earlier gate", g.Name)
		}
		gates = append(gates, g)
	}

	return gates, f.err()
}

// place is a place in a file; the zero place is the whole file.
type place struct{ line, column int }

// file is a file of gates while it is read.
type file struct {
	path     string
	places   map[string]place // of the keys outside of the gates
	of       []places         // of the gates
	problems []error
}

// places are the places of a gate's keys; the one of "" is the gate's own.
type places map[string]place

func (f *file) bad(at place, format string, args ...any) {
	where := f.path
	if at.line > 0 {
		where = fmt.Sprintf("%s:%d:%d", f.path, at.line, at.column)
	}
	f.problems = append(f.problems, fmt.Errorf("%w: %s: %s", ErrFile, where, fmt.Sprintf(format, args...)))
}

func (f *file) err() error { return errors.Join(f.problems...) }

// gateTable is the name of the tables of the file.
const gateTable = "gate"

// locate finds the places of the keys of a valid file.
func (f *file) locate(text []byte) {
	f.places = make(map[string]place)
	var p unstable.Parser
	p.Reset(text)
	at := f.places

	for p.NextExpression() {
		n := p.Expression()
		if n.Kind != unstable.KeyValue && n.Kind != unstable.Table && n.Kind != unstable.ArrayTable {
			continue
		}

		it := n.Key()
		var names []string
		var found place
		for it.Next() {
			if len(names) == 0 {
				start := p.Shape(p.Range(it.Node().Data)).Start
				found = place{start.Line, start.Column}
			}
			names = append(names, string(it.Node().Data))
		}
		name := strings.Join(names, ".")

		switch {
		case n.Kind == unstable.ArrayTable && name == gateTable:
			f.of = append(f.of, places{"": found})
			at = f.of[len(f.of)-1]
		case n.Kind == unstable.KeyValue:
			at[names[0]] = found
		default:
			f.places[names[0]] = found
			at = places{}
		}
	}
}

// unknown reports the keys outside of the gates.
func (f *file) unknown(tree map[string]any) {
	for key := range tree {
		if key != gateTable {
			f.bad(f.places[key], "unknown key %q, want [[gate]]", key)
		}
	}
}

// tables returns the tables of the gates.
func (f *file) tables(tree map[string]any) (tables []map[string]any) {
	value, ok := tree[gateTable]
	if !ok {
		return nil
	}

	list, ok := value.([]any)
	for _, v := range list {
		t, is := v.(map[string]any)
		ok = ok && is
		tables = append(tables, t)
	}
	if !ok {
		f.bad(f.places[gateTable], "gate is no list of tables, want [[gate]]")
		return nil
	}

	return tables
}

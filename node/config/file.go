package config

import (
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// readFile sets the values that a TOML file gives, and returns the problems of the file. go-toml's
// decoder first checks that the file is valid TOML and sets no key twice. Then readFile walks the
// file's syntax, because only the syntax has the line and column of a value.
func (s *Settings) readFile(path string, data []byte) (bad problems) {
	var discarded map[string]any
	if err := toml.Unmarshal(data, &discarded); err != nil {
		o := Origin{Layer: LayerFile, Name: path}
		syntax := new(toml.DecodeError)
		if errors.As(err, &syntax) {
			o.Line, o.Column = syntax.Position()
		}
		bad.add(o, "", "%s", strings.TrimPrefix(err.Error(), "toml: "))
		return bad
	}

	f := &fileWalk{Settings: s, path: path, bad: &bad}
	f.parser.Reset(data)

	// The name of the current table with its dot, and whether the table is known. If it is not,
	// only the table is reported, and not its keys.
	table, known := "", true

	for f.parser.NextExpression() {
		switch n := f.parser.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			it := n.Key()
			name, at := f.name(&it)
			table, known = name+".", f.table(n.Kind, name, at)
		case unstable.KeyValue:
			if known {
				f.keyValue(table, n)
			}
		}
	}

	if err := f.parser.Error(); err != nil {
		bad.add(Origin{Layer: LayerFile, Name: path}, "", "%v", err)
	}

	return bad
}

// fileWalk is one walk through a configuration file.
type fileWalk struct {
	*Settings
	path   string
	parser unstable.Parser
	bad    *problems
}

// name joins the parts of a dotted key, and returns where the key begins.
func (f *fileWalk) name(it *unstable.Iterator) (string, unstable.Range) {
	var parts []string
	var at unstable.Range

	for it.Next() {
		n := it.Node()
		if parts == nil {
			at = n.Raw
		}
		parts = append(parts, string(n.Data))
	}

	return strings.Join(parts, "."), at
}

// origin returns the place in the file as the origin of a value.
func (f *fileWalk) origin(at unstable.Range) Origin {
	p := f.parser.Shape(at).Start
	return Origin{Layer: LayerFile, Name: f.path, Line: p.Line, Column: p.Column}
}

// table checks the header of a table, and reports whether the keys in the table can be read.
func (f *fileWalk) table(kind unstable.Kind, name string, at unstable.Range) (known bool) {
	var sections []string
	for _, k := range keys {
		if k.Section() == name {
			if kind == unstable.ArrayTable {
				f.bad.add(f.origin(at), "", "[[%s]] is a list of tables, want [%s]", name, name)
			}
			return kind == unstable.Table
		}
		sections = append(sections, k.Section())
	}

	f.bad.add(f.origin(at), "", "unknown table %q%s", name, didYouMean(unique(nearest(name, sections))))
	return false
}

// keyValue sets the value of a key in a table. An inline table is read as a table.
func (f *fileWalk) keyValue(table string, n *unstable.Node) {
	it := n.Key()
	name, at := f.name(&it)
	name = table + name
	value := n.Value()
	k, near, ok := LookupKey(name)
	switch {
	case !ok && value.Kind == unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			f.keyValue(name+".", it.Node())
		}
		return
	case !ok:
		f.bad.add(f.origin(at), "", "unknown key %q%s", name, didYouMean(near))
		return
	}

	if value.Raw.Length > 0 {
		at = value.Raw
	}

	want := map[string]unstable.Kind{"string": unstable.String, "duration": unstable.String, "boolean": unstable.Bool,
		"integer": unstable.Integer}[k.Type()]
	if value.Kind != want {
		f.bad.add(f.origin(at), k.Name, "found %s, want %s", kindWord(value), k.Want())
		return
	}

	f.set(f.origin(at), k.Name, string(value.Data), f.bad)
}

// unique returns words without repetitions and empty strings.
func unique(words []string) []string {
	var once []string
	seen := map[string]bool{"": true}

	for _, w := range words {
		if !seen[w] {
			once = append(once, w)
		}
		seen[w] = true
	}

	return once
}

// kindWord describes a value for a message.
func kindWord(n *unstable.Node) string {
	switch n.Kind {
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	case unstable.String:
		return "the string \"" + string(n.Data) + "\""
	}
	return "the " + strings.ToLower(n.Kind.String()) + " " + string(n.Data)
}

package config

import (
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// readFile takes what a TOML file says. The file is walked by its syntax, since only that knows
// where a value stands; that it is TOML at all, and says nothing twice, go-toml's decoder says
// first.
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

	f := &configWalk{Settings: s, path: path, bad: &bad}
	f.parser.Reset(data)
	table, known := "", true // the table's name with its dot; what stands in an unknown one is not told of again

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

// configWalk is one walk through a file.
type configWalk struct {
	*Settings
	path   string
	parser unstable.Parser
	bad    *problems
}

// name joins a dotted key; at is where it begins.
func (f *configWalk) name(it *unstable.Iterator) (string, unstable.Range) {
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

func (f *configWalk) origin(at unstable.Range) Origin {
	p := f.parser.Shape(at).Start
	return Origin{Layer: LayerFile, Name: f.path, Line: p.Line, Column: p.Column}
}

// table checks the head of a table.
func (f *configWalk) table(kind unstable.Kind, name string, at unstable.Range) (known bool) {
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

func (f *configWalk) keyValue(table string, n *unstable.Node) {
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

// kindWord is a value as a message shows it.
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

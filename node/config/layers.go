package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/node/exit"
)

// FileName is the name of the configuration file in a home.
const FileName = "coppice.toml"

// Layer is a source of values of the configuration. A value of a later layer wins.
type Layer int

// The layers, in their order.
const (
	LayerDefault Layer = iota
	LayerFile
	LayerEnvironment
	LayerFlag
)

// String returns the layer's name: default, file, environment or flag.
func (l Layer) String() string {
	return [...]string{"default", "file", "environment", "flag"}[l]
}

// Origin is the exact place that a value came from.
type Origin struct {
	Layer        Layer
	Name         string // path of the file, name of the variable or the flag
	Line, Column int    // in a file, from 1
}

// String returns the origin as messages name it. A place in a file is path:line:column.
func (o Origin) String() string {
	switch {
	case o.Layer == LayerDefault:
		return "default"
	case o.Layer == LayerFile && o.Line > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	case o.Layer == LayerFile:
		return o.Name
	}
	return o.Layer.String() + " " + o.Name
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Origin Origin
	Key    string // empty if the problem is not about one key
	Text   string // the value that was found, and the value that was expected
}

// String returns "origin: key: text". A value that a program set has no origin.
func (p Problem) String() string {
	parts := []string{}
	if p.Origin != (Origin{}) {
		parts = append(parts, p.Origin.String())
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Text), ": ")
}

// Error lists everything that is wrong with a configuration. errors.Is reports that it is
// exit.ErrConfig.
type Error struct{ Problems []Problem }

// Error returns a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	if len(lines) == 1 {
		return exit.ErrConfig.Error() + ": " + lines[0]
	}
	return fmt.Sprintf("%v: %d problems:\n  %s", exit.ErrConfig, len(lines), strings.Join(lines, "\n  "))
}

// Is reports whether target is exit.ErrConfig, so every Error is an exit.ErrConfig.
func (e *Error) Is(target error) bool { return target == exit.ErrConfig }

// problems collects the problems of a configuration.
type problems []Problem

// add adds a problem.
func (p *problems) add(o Origin, key, format string, args ...any) {
	*p = append(*p, Problem{Origin: o, Key: key, Text: fmt.Sprintf(format, args...)})
}

// err returns the problems as an *Error; nil if there are none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &Error{p}
}

// Assignment is a value that a flag gave.
type Assignment struct {
	Key   string
	Value string
	Flag  string // its name, with the dashes
}

// Sources are the layers above the file.
type Sources struct {
	Environ []string     // NAME=value, as os.Environ returns; nil: none
	Set     []Assignment // of flags
}

// Settings are a configuration and the origin of each of its values.
type Settings struct {
	Config  Config
	origins map[string]Origin
}

// defaultSettings returns the settings in which every value is its default.
func defaultSettings() Settings {
	return Settings{Config: Defaults(), origins: map[string]Origin{}}
}

// Origin returns where the value of a key came from.
func (s Settings) Origin(key string) Origin { return s.origins[key] }

// Changed returns the keys whose values differ from those in other.
func (s Settings) Changed(other Settings) []Key {
	var changed []Key
	for _, k := range keys {
		if k.Value(s.Config) != k.Value(other.Config) {
			changed = append(changed, k)
		}
	}
	return changed
}

// Resolve returns the configuration in force for a home: defaults, then coppice.toml, then the
// environment, then flags. An invalid configuration is an *Error, which has all problems at once
// with the origin of each value. Other errors are exit.ErrConfig.
func Resolve(home string, src Sources) (Settings, error) {
	s := defaultSettings()
	path := filepath.Join(home, FileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, exit.NoHome(home, FileName)
	}
	if err != nil {
		return s, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	bad := s.readFile(path, data)
	s.readEnvironment(src.Environ, &bad)
	for _, a := range src.Set {
		s.set(Origin{Layer: LayerFlag, Name: a.Flag}, a.Key, a.Value, &bad)
	}

	return s.checked(bad)
}

// CheckFile returns the configuration of one file alone, which need not be in a home. Its errors
// are those of Resolve.
func CheckFile(path string) (Settings, error) {
	s := defaultSettings()
	data, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return s.checked(s.readFile(path, data))
}

// FromAssignments returns the defaults with the given values in place of some of them. An
// assignment without a value counts only if it comes from --set. Errors are *Error.
func FromAssignments(list []Assignment) (Settings, error) {
	var bad problems
	s := defaultSettings()

	for _, a := range list {
		if a.Value != "" || a.Flag == "--set" {
			s.set(Origin{Layer: LayerFlag, Name: a.Flag}, a.Key, a.Value, &bad)
		}
	}

	return s.checked(bad)
}

// checked returns s and an *Error with the problems in bad and those of the values of s. The error
// is nil if there are no problems.
func (s Settings) checked(bad problems) (Settings, error) {
	known := new(Error)
	if errors.As(s.validate(), &known) {
		bad = append(bad, known.Problems...)
	}
	return s, bad.err()
}

// validate checks every value.
func (s Settings) validate() error {
	var bad problems
	for _, k := range Keys() {
		if err := k.validate(s.Config); err != nil {
			bad.add(s.origins[k.Name], k.Name, "%v", err)
		}
	}
	return bad.err()
}

// set sets a key to value, which has the form that the environment and flags use. It adds a problem
// to bad if there is no such key, or if the value is invalid.
func (s *Settings) set(o Origin, name, value string, bad *problems) {
	k, near, ok := LookupKey(name)
	if !ok {
		bad.add(o, "", "unknown key %q%s", name, didYouMean(near))
		return
	}

	if err := k.set(&s.Config, value); err != nil {
		bad.add(o, k.Name, "%v", err)
		return
	}

	s.origins[k.Name] = o
}

// notKeys are the variables that the command reads and that do not belong to a key.
var notKeys = []string{"COPPICE_HOME", "COPPICE_TOKEN"}

// readEnvironment reads the variables that set keys. A variable that belongs to no key is refused
// if it begins like the variables of a section, or if it is nearly the name of a key's variable. A
// node that runs with another value than its operator believes is worse than one that does not
// start. Other variables that begin with COPPICE_ are ignored, because container platforms make up
// such names from the name of a service.
func (s *Settings) readEnvironment(environ []string, bad *problems) {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "COPPICE_") || slices.Contains(notKeys, name) {
			continue
		}

		o := Origin{Layer: LayerEnvironment, Name: name}

		if i := slices.IndexFunc(keys, func(k Key) bool { return k.Env() == name }); i >= 0 {
			s.set(o, keys[i].Name, value, bad)
			continue
		}

		var near []string
		meant := false

		for _, k := range keys {
			if distance(k.Env(), name) <= 2 {
				near = append(near, k.Env())
			}
			meant = meant || k.Section() != "" && strings.HasPrefix(name, "COPPICE_"+strings.ToUpper(k.Section())+"_")
		}

		if meant || len(near) > 0 {
			bad.add(o, "", "no key has this variable%s", didYouMean(near))
		}
	}
}

// Commented returns a coppice.toml that explains every key. Keys that differ from their defaults in
// c are set, and the others are comments.
func (c Config) Commented() string {
	var b strings.Builder
	b.WriteString(`# Coppice's configuration. A key in a comment has its default. Unknown keys are refused.
# The environment (COPPICE_LISTEN=...) overrides this file, and the flags of "coppice start" override both.
# "coppice config" prints the values in force and their origins; "coppice config explain KEY" explains a key.
`)
	section := ""
	defaults := Defaults()

	for _, k := range Keys() {
		if s := k.Section(); s != section {
			section = s
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}

		b.WriteString("\n")
		for line := range strings.SplitSeq(wrap(k.Doc, 100), "\n") {
			fmt.Fprintf(&b, "# %s\n", line)
		}

		mark := ""
		if k.Value(c) == k.Value(defaults) {
			mark = "#"
		}

		fmt.Fprintf(&b, "%s%s = %s\n", mark, k.last(), k.TOML(c))
	}

	return b.String()
}

// wrap breaks text between words into lines of at most width bytes. A word that is longer than
// width has a line of its own.
func wrap(text string, width int) string {
	var b strings.Builder
	at := 0

	for i, w := range strings.Fields(text) {
		switch {
		case i == 0:
		case at+1+len(w) > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}

		b.WriteString(w)
		at += len(w)
	}

	return b.String()
}

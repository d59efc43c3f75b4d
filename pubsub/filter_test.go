package pubsub

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// note is the event of the tests.
type note struct {
	kind, path string
	seq        int
}

var (
	kind = Equal("kind", func(n note) string { return n.kind })
	path = Under("path", func(n note) string { return n.path })
)

func table(t testing.TB) *Table[note] {
	t.Helper()
	tab, err := NewTable[note](kind, path)
	require.NoError(t, err)
	return tab
}

func TestFiltersAreValues(t *testing.T) {
	require.True(t, kind.Is("a") == kind.Is("a"), "filters of one attribute with equal values are equal")
	require.False(t, kind.Is("a") == kind.Is("b"))
	require.True(t, path.Is("a/b/") == path.Is("a/b"), "the normal form is the value")
	require.Equal(t, "kind=a", kind.Is("a").Key())
}

func TestUnderMatchesWholeElements(t *testing.T) {
	for _, c := range []struct {
		under, path string
		want        bool
	}{
		{"a", "a", true},
		{"a", "a/b", true},
		{"a", "ab", false},
		{"a/", "a", true},
		{"a/b", "a", false},
		{"", "a/b", true},
		{"", "", true},
		{"a", "", false},
	} {
		require.Equal(t, c.want, path.Is(c.under).Match(note{path: c.path}), "%q under %q", c.path, c.under)
	}
}

func TestChainMatchesWhatEachFilterMatches(t *testing.T) {
	chain := Chain[note]{kind.Is("k"), path.Is("a")}
	require.True(t, chain.Match(note{kind: "k", path: "a/b"}))
	require.False(t, chain.Match(note{kind: "k", path: "b"}))
	require.False(t, chain.Match(note{kind: "l", path: "a"}))
	require.True(t, Chain[note]{}.Match(note{}), "the empty chain matches every event")
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"  ", ""},
		{"kind=ChildExited", "kind=ChildExited"},
		{" kind=ChildExited , path=coppice/node ", "kind=ChildExited,path=coppice/node"},
		{`kind=""`, `kind=""`},
		{`kind="a"`, "kind=a"},
		{`kind="a,b",path=x/`, `kind="a,b",path=x`},
		{`kind=a=b`, "kind=a=b"},
		{`kind="\x00\xff"`, `kind="\x00\xff"`},
	} {
		chain, err := table(t).Parse(c.text)
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, c.want, chain.String(), "%q", c.text)
	}
}

// An error says what was wrong, where, and what was expected (I10).
func TestParseRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"=a", `at byte 0 of "=a": want a filter name`},
		{"kind", `want '=' after the filter name "kind", found the end`},
		{"kind a", `want '=' after the filter name "kind", found ' '`},
		{"kind=", `want a value after "kind=", an empty one as "", found the end`},
		{"kind=a,", `at byte 7 of "kind=a,": want a filter name (a letter, then letters, digits, '_', '.' or '-'), found the end`},
		{"kind=a,,path=b", `at byte 7`},
		{"kind=a b", `at byte 7 of "kind=a b": want a comma or the end after the term, found 'b'`},
		{`kind="a`, `the quoted value of "kind" does not end, or has a bad escape`},
		{`kind="\q"`, `the quoted value of "kind" does not end, or has a bad escape`},
		{"knd=a", `no filter is called "knd", want one of kind, path`},
		{"kind=\xff", `want a value after "kind="`},
		{strings.Repeat("kind=a,", MaxChain) + "kind=a", "want at most 16 filters in a chain"},
	} {
		_, err := table(t).Parse(c.text)
		require.ErrorIs(t, err, ErrFilter, "%q", c.text)
		require.ErrorContains(t, err, c.want, "%q", c.text)
	}
}

// The text form of a chain reads back as the same chain, whatever the values are.
func TestChainTextReadsBack(t *testing.T) {
	tab := table(t)
	rapid.Check(t, func(t *rapid.T) {
		var chain Chain[note]
		for range rapid.IntRange(0, MaxChain).Draw(t, "length") {
			family := rapid.SampledFrom([]*Attribute[note]{kind, path}).Draw(t, "family")
			chain = append(chain, family.Is(rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()),
				func(b []byte) string { return string(b) })).Draw(t, "value")))
		}

		if err := chain.validate(); err != nil {
			t.Fatal(err)
		}
		read, err := tab.Parse(chain.String())
		if err != nil {
			t.Fatal(err)
		}
		if len(chain) == 0 {
			chain = nil
		}

		require.Equal(t, chain, read)
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "kind=a,path=b/c", `kind="a,b"`, `kind="\u00e9\xff",path=""`, "kind=", ",",
		"kind=\xff", "kind=a  ,\tpath=\"x\""} {
		f.Add(seed)
	}

	tab, err := NewTable[note](kind, path)
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, text string) {
		chain, err := tab.Parse(text)
		if err != nil {
			if !errors.Is(err, ErrFilter) || chain != nil {
				t.Fatalf("%q: %v, %v", text, chain, err)
			}
			return
		}
		if err := chain.validate(); err != nil {
			t.Fatalf("%q parsed to a chain that is none: %v", text, err)
		}

		canonical := chain.String()
		again, err := tab.Parse(canonical)
		if err != nil || again.String() != canonical {
			t.Fatalf("%q: canonical %q reads back as %q, %v", text, canonical, again, err)
		}
	})
}

func TestTableRefusesBadFamilies(t *testing.T) {
	_, err := NewTable[note](kind, kind)
	require.ErrorIs(t, err, ErrFilter)
	require.ErrorContains(t, err, `two families are called "kind"`)
	_, err = NewTable[note](Equal("a b", func(note) string { return "" }))
	require.ErrorContains(t, err, `filter name "a b": byte 1 is ' '`)
	_, err = NewTable[note](Equal("", func(note) string { return "" }))
	require.ErrorContains(t, err, "filter name is empty")
}

// family is a family of a user's own. Its filters have the key that it was given.
type family struct {
	key string
	err error
}

func (f family) Name() string                        { return "mine" }
func (f family) Filter(string) (Filter[note], error) { return f, f.err }
func (f family) Key() string                         { return f.key }
func (f family) Match(note) bool                     { return true }

func TestTableHoldsFamiliesToTheirContract(t *testing.T) {
	parse := func(f family) error {
		tab, err := NewTable[note](f)
		require.NoError(t, err)
		_, err = tab.Parse("mine=x")
		return err
	}
	require.NoError(t, parse(family{key: "mine=x"}))
	require.NoError(t, parse(family{key: "mine=normal"}))
	reason := errors.New("no such thing")
	err := parse(family{err: reason})
	require.ErrorIs(t, err, ErrFilter)
	require.ErrorIs(t, err, reason)
	require.ErrorContains(t, parse(family{key: "other=x"}), "want a term of its own name")
	require.ErrorContains(t, parse(family{key: `mine="x"`}), `not canonical, want "mine=x"`)
	require.ErrorContains(t, parse(family{key: "mine=x,mine=y"}), "want nothing after the term")
	require.ErrorContains(t, parse(family{key: "mine"}), "want '='")
}

func TestChainRefusals(t *testing.T) {
	require.ErrorContains(t, Chain[note]{kind.Is("a"), nil}.validate(), "filter 1 of the chain is nil")
	require.ErrorContains(t, make(Chain[note], MaxChain+1).validate(), "a chain of 17 filters, want at most 16")
	require.ErrorIs(t, Chain[note]{family{key: "a,b"}}.validate(), ErrFilter)
}

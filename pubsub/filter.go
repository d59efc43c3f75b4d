package pubsub

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxChain is the greatest number of filters in a chain. Each filter of a new chain may start an
// agent, so it also bounds the number of agents that one subscription can start.
const MaxChain = 16

// Filter is a predicate over events, as a value: its Key alone defines which events it matches.
//
// Key returns a term in canonical form, as Term makes it. Two filters with the same key must match
// the same events: subscribers whose chains begin with the same keys share agents, and each agent
// runs the filter of its first subscriber.
//
// Match is called by one agent at a time, in publish order, and must not block: all subscribers
// behind that agent would wait. A Match that panics ends its agent and with it this incarnation of
// the bus. Check what people type in a Family's Filter, which may refuse it.
type Filter[E any] interface {
	Key() string
	Match(E) bool
}

// Chain is a list of filters. It matches an event that each of them matches; they are asked in
// order. The empty chain matches every event.
//
// The order is part of the chain: [a b] and [b a] match the same events but share no agent, so put
// the filter that many subscribers have first.
type Chain[E any] []Filter[E]

// String returns the text form of the chain: its keys, joined by commas. Table.Parse reads it back.
func (c Chain[E]) String() string {
	keys := make([]string, len(c))
	for i, f := range c {
		keys[i] = f.Key()
	}
	return strings.Join(keys, ",")
}

// Match reports whether every filter of the chain matches e.
func (c Chain[E]) Match(e E) bool {
	for _, f := range c {
		if !f.Match(e) {
			return false
		}
	}
	return true
}

// validate returns an ErrFilter if the chain is too long, or holds a nil filter or one whose key is
// not canonical.
func (c Chain[E]) validate() error {
	if len(c) > MaxChain {
		return fmt.Errorf("%w: a chain of %d filters, want at most %d", ErrFilter, len(c), MaxChain)
	}

	for i, f := range c {
		if f == nil {
			return fmt.Errorf("%w: filter %d of the chain is nil", ErrFilter, i)
		}
		if err := checkKey(f.Key()); err != nil {
			return fmt.Errorf("%w: filter %d of the chain (%T): %w", ErrFilter, i, f, err)
		}
	}

	return nil
}

// Term returns the canonical key of the filter with this name and value: name=value. The value is
// in Go's double quotes if it is empty or holds a comma, a quote, a backslash, a space or a
// character that does not print. No two pairs have the same term, and no term holds a comma outside
// quotes, so the text of a chain is unambiguous.
func Term(name, value string) string {
	if bare(value) {
		return name + "=" + value
	}
	return name + "=" + strconv.Quote(value)
}

func checkKey(key string) error {
	name, value, rest, err := scanTerm(key)
	switch {
	case err != nil:
		return fmt.Errorf("key %q: %w", key, err)
	case rest != "":
		return fmt.Errorf("key %q: want nothing after the term%s", key, found(rest))
	case Term(name, value) != key:
		return fmt.Errorf("key %q is not canonical, want %q", key, Term(name, value))
	}

	return nil
}

// scanTerm reads one term from the start of text. rest is all that follows it, unchecked.
func scanTerm(text string) (name, value, rest string, err error) {
	n := 0
	for n < len(text) && nameByte(text[n], n) {
		n++
	}

	switch {
	case n == 0:
		return "", "", "", fmt.Errorf("want a filter name (a letter, then letters, digits, '_', '.' or '-')%s",
			found(text))
	case n == len(text) || text[n] != '=':
		return "", "", "", fmt.Errorf("want '=' after the filter name %q%s", text[:n], found(text[n:]))
	}

	name, rest = text[:n], text[n+1:]

	if strings.HasPrefix(rest, `"`) {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", "", "", fmt.Errorf("the quoted value of %q does not end, or has a bad escape", name)
		}
		if value, err = strconv.Unquote(quoted); err != nil {
			return "", "", "", fmt.Errorf("the quoted value of %q: %w", name, err)
		}
		return name, value, rest[len(quoted):], nil
	}

	end := strings.IndexFunc(rest, notBare)
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return "", "", "", fmt.Errorf(`want a value after "%s=", an empty one as ""%s`, name, found(rest))
	}

	return name, rest[:end], rest[end:], nil
}

func checkName(name string) error {
	for i := range len(name) {
		if !nameByte(name[i], i) {
			return fmt.Errorf("filter name %q: byte %d is %q, want a letter, then letters, digits, '_', '.' or '-'",
				name, i, name[i])
		}
	}

	if name == "" {
		return fmt.Errorf("filter name is empty")
	}
	return nil
}

func nameByte(b byte, at int) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z':
		return true
	case '0' <= b && b <= '9', b == '_', b == '.', b == '-':
		return at > 0
	}
	return false
}

func bare(value string) bool { return value != "" && strings.IndexFunc(value, notBare) < 0 }

// notBare reports whether a value that holds r must be quoted. U+FFFD must, because a byte that is
// not UTF-8 reads as that rune.
func notBare(r rune) bool {
	return r == ',' || r == '"' || r == '\\' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

func found(rest string) string {
	if rest == "" {
		return ", found the end"
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return fmt.Sprintf(", found %q", r)
}

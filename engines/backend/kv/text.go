package kv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// forms lists the operations of the text form. Words in capitals stand for arguments.
var forms = []struct {
	usage string
	make  func(key []byte, args []string) (Op, error)
}{
	{"put KEY VALUE", func(k []byte, a []string) (Op, error) { return Put(k, []byte(a[0])), nil }},
	{"delete KEY", func(k []byte, _ []string) (Op, error) { return Delete(k), nil }},
	{"append KEY MEMBER", func(k []byte, a []string) (Op, error) { return Append(k, []byte(a[0])), nil }},
	{"cas KEY equals EXPECTED VALUE", func(k []byte, a []string) (Op, error) {
		return CAS(k, []byte(a[0]), []byte(a[1])), nil
	}},
	{"cas KEY absent VALUE", func(k []byte, a []string) (Op, error) { return CASAbsent(k, []byte(a[0])), nil }},
	{"add KEY DELTA", func(k []byte, a []string) (Op, error) {
		n, err := strconv.ParseInt(a[0], 10, 64)
		if err != nil {
			return Op{}, fmt.Errorf("DELTA is %s, want a whole number of int64", clip([]byte(a[0])))
		}
		return Add(k, n), nil
	}},
	{"require KEY equals VALUE", func(k []byte, a []string) (Op, error) { return Require(k, []byte(a[0])), nil }},
	{"require KEY exists", func(k []byte, _ []string) (Op, error) { return RequireExists(k), nil }},
	{"require KEY absent", func(k []byte, _ []string) (Op, error) { return RequireAbsent(k), nil }},
	{"read KEY", func(k []byte, _ []string) (Op, error) { return Read(k), nil }},
}

// Usage returns the forms of all operations, one per line, for help texts.
func Usage() string {
	var b strings.Builder
	for _, f := range forms {
		b.WriteString(f.usage)
		b.WriteByte('\n')
	}
	return b.String()
}

// ParseOp reads one operation from its words, as a command line gives them: "put", "KEY", "VALUE".
// Usage lists all forms.
func ParseOp(words ...string) (Op, error) {
	o, at, err := parseWords(words)
	if err != nil {
		return Op{}, fmt.Errorf("%w: word %d: %w", ErrMalformed, at+1, err)
	}
	return o, nil
}

// ParseText reads operations from text, one per line, in the forms that Usage prints.
//
// Words are separated by blanks or tabs. A word that is empty, or has blanks, quotes or bytes that
// do not print, must be quoted as in Go: "a b", "", "\x00\n", or `a "raw" one`. Quotes enclose
// whole words only. Empty lines, and lines whose first word begins with #, are skipped. Errors wrap
// ErrMalformed and name the line and the column, both counted from 1, in characters.
func ParseText(text string) ([]Op, error) {
	var ops []Op
	n := 0

	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		words, cols, err := splitWords(line)
		if len(words) == 0 && err == nil {
			continue
		}

		at := len(words)
		var o Op
		if err == nil {
			o, at, err = parseWords(words)
		}
		if err == nil && len(ops) == MaxOps {
			at, err = 0, fmt.Errorf("more than %d operations", MaxOps)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d, column %d: %w", ErrMalformed, n, cols[at], err)
		}

		ops = append(ops, o)
	}

	return ops, nil
}

// FormatText returns operations in the form that ParseText reads.
func FormatText(ops ...Op) string {
	var b strings.Builder
	for _, o := range ops {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns the operation's line in the text form.
func (o Op) String() string {
	words := []string{o.Kind.String(), quote(o.Key)}
	if o.Cond != 0 {
		words = append(words, o.Cond.String())
	}
	if o.Cond == Equals {
		words = append(words, quote(o.Expected))
	}

	switch o.Kind {
	case KindPut, KindAppend, KindCAS:
		words = append(words, quote(o.Value))
	case KindAdd:
		words = append(words, strconv.FormatInt(o.Delta, 10))
	}

	return strings.Join(words, " ")
}

// parseWords finds the form of the words. at is the index of the word that an error is about, and
// len(words) if it is about the end.
func parseWords(words []string) (o Op, at int, err error) {
	open := forms
	for i := 0; ; i++ {
		var wants []string
		next := slices.Clone(open)[:0]

		for _, f := range open {
			pattern := strings.Fields(f.usage)
			switch {
			case i == len(pattern) && i == len(words):
				o, err = f.make([]byte(words[1]), captured(pattern, words)[1:])
				if err != nil {
					return o, i - 1, err
				}
				if err = o.check(); err != nil && o.checkKey() != nil {
					return o, 1, err
				}
				return o, i - 1, err

			case i == len(pattern):
				wants = append(wants, "the end")

			case i < len(words) && (isCapital(pattern[i]) || pattern[i] == words[i]):
				next = append(next, f)

			case !slices.Contains(wants, pattern[i]):
				wants = append(wants, pattern[i])
			}
		}

		if len(next) > 0 {
			open = next
			continue
		}

		if i == len(words) {
			return o, i, fmt.Errorf("the operation ends here, want %s", strings.Join(wants, " or "))
		}

		return o, i, fmt.Errorf("unexpected %s, want %s", clip([]byte(words[i])), strings.Join(wants, " or "))
	}
}

// captured returns the words at the places where the pattern has capitals, the key first.
func captured(pattern, words []string) []string {
	var c []string
	for i, p := range pattern {
		if isCapital(p) {
			c = append(c, words[i])
		}
	}
	return c
}

func isCapital(word string) bool { return word[0] >= 'A' && word[0] <= 'Z' }

// splitWords splits a line into words. cols holds the column of each word, and one more: the column
// where the line ends or the error is.
func splitWords(line string) (words []string, cols []int, err error) {
	for rest := line; ; {
		rest = strings.TrimLeft(rest, " \t")
		cols = append(cols, 1+utf8.RuneCountInString(line[:len(line)-len(rest)]))
		if rest == "" || len(words) == 0 && rest[0] == '#' {
			return words, cols, nil
		}

		var word string

		if rest[0] == '"' || rest[0] == '`' {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return words, cols, fmt.Errorf("the quote %c is not closed, or holds an escape that Go does not have",
					rest[0])
			}

			word, _ = strconv.Unquote(quoted) // QuotedPrefix has checked it

			rest = rest[len(quoted):]
			if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
				cols[len(words)] = 1 + utf8.RuneCountInString(line[:len(line)-len(rest)])
				return words, cols, fmt.Errorf("want a blank after the closing quote")
			}
		} else {
			end := strings.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}

			word = rest[:end]
			if i, why := notBare(word); why != "" {
				cols[len(words)] += utf8.RuneCountInString(word[:i])
				return words, cols, fmt.Errorf("%s; put the word in double quotes", why)
			}

			rest = rest[end:]
		}

		words = append(words, word)
	}
}

// notBare returns why a word must be quoted, and the index of the byte that requires it. why is
// empty if the word can stand without quotes.
func notBare(word string) (at int, why string) {
	if strings.HasPrefix(word, "'") {
		return 0, "single quotes do not quote"
	}

	for i, r := range word {
		switch {
		case r == '"' || r == '`':
			return i, "a quote inside a word"
		case r == utf8.RuneError && !strings.HasPrefix(word[i:], string(utf8.RuneError)):
			return i, "a byte that is not UTF-8"
		case !unicode.IsPrint(r):
			return i, fmt.Sprintf("the character %U does not print", r)
		}
	}

	return 0, ""
}

func quote(b []byte) string {
	s := string(b)
	if _, why := notBare(s); why != "" || s == "" || strings.ContainsAny(s, " ") {
		return strconv.Quote(s)
	}
	return s
}

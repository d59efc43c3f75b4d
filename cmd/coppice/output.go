package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// printJSON writes v as people and programs can read it.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// text is bytes in JSON: as a string where they are UTF-8, and else in base64.
type text struct {
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

func textOf(b []byte) text {
	if utf8.Valid(b) {
		s := string(b)
		return text{Text: &s}
	}
	return text{Base64: b}
}

// terminal tells whether f shows what is written to it to a person.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// paint adds colours, on a terminal of a person who has not set NO_COLOR (no-color.org).
type paint bool

func paintFor(f *os.File) paint { return paint(terminal(f) && os.Getenv("NO_COLOR") == "") }

func (p paint) in(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) good(s string) string { return p.in("32", s) }
func (p paint) bad(s string) string  { return p.in("31;1", s) }
func (p paint) dim(s string) string  { return p.in("2", s) }
func (p paint) bold(s string) string { return p.in("1", s) }

// timeOf is a timestamp's time, nil for none.
func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	u := t.AsTime()
	return &u
}

// enumWord is the last part of an enum's name in lower case: CHILD_STATE_RUNNING is "running".
// Unspecified is no word.
func enumWord(e fmt.Stringer, prefix string) string {
	w := strings.ToLower(strings.TrimPrefix(e.String(), prefix))
	if w == "unspecified" {
		return ""
	}
	return w
}

// oneLine cuts s at its first line's end, or at max bytes.
func oneLine(s string, max int) string {
	s, _, cut := strings.Cut(s, "\n")
	if len(s) > max {
		s, cut = s[:max], true
	}
	if cut {
		s += "…"
	}
	return s
}

// byteCount is a number of bytes for people.
func byteCount(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	f, names := float64(n)/unit, "KMGTP"
	for f >= unit && len(names) > 1 {
		f, names = f/unit, names[1:]
	}

	return fmt.Sprintf("%.1f %ciB", f, names[0])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// wrapWords lays words out in lines of at most width columns, those after the first indented.
func wrapWords(words []string, indent, width int) string {
	var b strings.Builder
	at := indent

	for i, w := range words {
		if i > 0 {
			w = ", " + w
		}

		if at+len(w) > width {
			b.WriteString(",\n" + strings.Repeat(" ", indent))
			w = strings.TrimPrefix(w, ", ")
			at = indent
		}

		b.WriteString(w)
		at += len(w)
	}

	return b.String()
}

package main

import (
	"encoding/json"
	"io"
	"os"
	"unicode/utf8"
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

package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// printJSON writes v as indented JSON, for people and programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// text is how bytes are written in JSON: as a string if they are UTF-8, otherwise in base64.
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

// terminal reports whether f is a terminal, and not a dumb one. Other devices, such as /dev/null,
// have no window.
func terminal(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}

	is := false
	err = c.Control(func(fd uintptr) {
		_, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		is = err == nil
	})

	return err == nil && is && os.Getenv("TERM") != "dumb"
}

// paint adds colours to text. It is true on a terminal where NO_COLOR is not set (no-color.org).
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

// timeOf returns the time of a timestamp, or nil for nil.
func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	u := t.AsTime()
	return &u
}

// enumWord returns the last part of an enum's name in lower case: "running" for
// CHILD_STATE_RUNNING. It returns "" for an unspecified value.
func enumWord(e fmt.Stringer, prefix string) string {
	w := strings.ToLower(strings.TrimPrefix(e.String(), prefix))
	if w == "unspecified" {
		return ""
	}
	return w
}

// byteCount formats a number of bytes for people.
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

// ms returns d in milliseconds.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// recordRange returns in words which records a log has. An empty log has a last index below its
// first.
func recordRange(first, last uint64) string {
	if last < first {
		return "no records"
	}
	return fmt.Sprintf("records %d to %d", first, last)
}

// wrapWords joins words with commas, in lines of at most width columns. The first line begins at
// column indent, and the others are indented to it.
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

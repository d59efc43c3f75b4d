package otpdiff

import (
	"fmt"
	"slices"
	"strings"
)

// sides are the two traces of one history.
type sides struct{ otp, here string }

// newSides normalizes both in the same way.
func newSides(h History, otp, here string) sides {
	d := h.dynamics()
	is := func(path string) bool { return d[path] }
	return sides{otp: normalize(otp, is), here: normalize(here, is)}
}

func (s sides) differ() bool { return s.otp != s.here }

// String is both traces beside each other up to a little after the first difference.
func (s sides) String() string {
	const width, after = 60, 12
	left, right := strings.Split(s.otp, "\n"), strings.Split(s.here, "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "  %-*s %s\n", width, "OTP", "package supervisor")
	first := -1
	for i := range max(len(left), len(right)) {
		l, r, mark := at(left, i), at(right, i), " "
		if l != r {
			mark = "!"
			if first < 0 {
				first = i
			}
		}
		if first >= 0 && i > first+after {
			b.WriteString("  …\n")
			break
		}
		fmt.Fprintf(&b, "%s %-*s %s\n", mark, width, l, r)
	}
	return b.String()
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// seen counts kinds of lines of traces: first words, and of answers and reports what they say. It tells what a set of histories reached.
type seen map[string]int

func (s seen) add(trace string) {
	for line := range strings.Lines(trace) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "answer":
			s["answer "+f[2]]++
		case "report":
			s["report "+f[1]]++
		case "stop", "end":
			s[f[0]+" "+f[len(f)-1]]++
		case "which":
			if strings.Contains(line, "-") {
				s["which not running"]++
			}
		case "absent", "skipped", "blocked", "over":
			s[f[0]]++
		}
	}
}

// String lists the kinds with their numbers.
func (s seen) String() string {
	var kinds []string
	for k, n := range s {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	return strings.Join(kinds, ", ")
}

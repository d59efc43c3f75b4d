package otpdiff

import (
	"fmt"
	"strings"
)

// sides are the two traces of one history.
type sides struct {
	otp, here string
	met       features // the features that package supervisor met
}

// newSides normalizes both traces in the same way.
func newSides(h History, otp, here string) sides {
	d := h.dynamics()
	is := func(path string) bool { return d[path] }
	return sides{otp: normalize(otp, is), here: normalize(here, is)}
}

func (s sides) differ() bool { return s.otp != s.here }

// String returns both traces side by side, up to a little after the first difference.
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

package top

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// number returns n with commas between groups of three digits.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size returns a number of bytes.
func size(n float64) string {
	const names = "KMGTP"
	if n < 1<<10 {
		return fmt.Sprintf("%.0f B", n)
	}

	i := -1
	for n >= 1<<10 && i < len(names)-1 {
		n, i = n/(1<<10), i+1
	}
	return fmt.Sprintf("%.1f %ciB", n, names[i])
}

// ago returns a time in at most two units: "3d4h", "2h5m", "1m3s", "12s", "250ms".
func ago(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d/time.Hour%24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d/time.Minute%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d/time.Second%60)
	case d >= 10*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	case d >= time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	case d > 0:
		return fmt.Sprintf("%dµs", d/time.Microsecond)
	}
	return "0s"
}

// since returns the time from t to now; "-" if t is not known.
func since(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	return ago(now.Sub(t.AsTime()).Truncate(time.Second))
}

// word returns the last part of an enum's name in lower case; "" if it is unspecified.
func word(e fmt.Stringer, prefix string) string {
	w := strings.ToLower(strings.TrimPrefix(e.String(), prefix))
	if w == "unspecified" {
		return ""
	}
	return w
}

// plural returns n with a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun == "child" {
		return number(uint64(n)) + " children"
	}
	if strings.HasSuffix(noun, "sh") {
		noun += "e"
	}
	return number(uint64(n)) + " " + noun + "s"
}

// period returns a duration as Go writes it, without units that are zero: "1m".
func period(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sparks are the heights of a chart in one row.
var sparks = []rune("▁▂▃▄▅▆▇█")

// spark returns the newest values as a chart of at most columns cells. The highest value is as high
// as the row.
func spark(values []float64, columns int) string {
	values = values[max(0, len(values)-columns):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}

	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = min(int(v/most*float64(len(sparks))), len(sparks)-1)
		}
		b.WriteRune(sparks[max(i, 0)])
	}

	return b.String()
}

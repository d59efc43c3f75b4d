package chaos

import (
	"os"
	"strconv"
	"strings"
)

// loadAverage is the system's load average of a minute, 0 where it is not told as Linux does.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}

	first, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}

	return n
}

package chaos

import (
	"os"
	"strconv"
	"strings"
)

// loadAverage returns the system's load average over a minute, or 0 if there is no /proc/loadavg.
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

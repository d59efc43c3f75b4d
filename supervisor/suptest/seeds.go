package suptest

import (
	"os"
	"strconv"
	"testing"
)

// EachSeed runs f as a subtest for each of the seeds 0 to n-1, until one fails. The environment
// variable env, if it is set to a number, replaces n. The name of the subtest is its seed.
func EachSeed(t *testing.T, env string, n int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	if more, err := strconv.Atoi(os.Getenv(env)); err == nil {
		n = more
	}

	for seed := range uint64(n) {
		if t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { f(t, seed) }); t.Failed() {
			return
		}
	}
}

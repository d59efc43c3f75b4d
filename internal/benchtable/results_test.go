package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const output = `goos: linux
pkg: example.org/log
cpu: some
BenchmarkAppend-2     	    1000	      1500 ns/op	      64 B/op	       2 allocs/op
BenchmarkAppend-2     	    1000	      9000 ns/op	      64 B/op	       2 allocs/op
BenchmarkAppend-2     	    1000	      1600 ns/op	      66 B/op	       2 allocs/op
BenchmarkRead/of-7-2  	      10	 250000000 ns/op	  40.01 MB/s	      12.5 waits/op
PASS
ok  	example.org/log	3.1s
pkg: example.org/bus
BenchmarkAppend-2     	    1000	         0.5 ns/op
BenchmarkAppend-2     	    1000	         1.5 ns/op
PASS
`

func TestOneLineHasTheMedianOfEachBenchmark(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw.txt")
	var out strings.Builder
	require.NoError(t, run(strings.NewReader(output), &out, raw, results.print))

	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, []string{
		"BENCHMARK TIME ± B/OP ALLOCS ROUNDS MORE",
		"example.org/log",
		"Append 1.6 µs 462 % 64 2 3",
		"Read/of-7 250 ms 0 % - - 1 40 MB/s, 12.5 waits/op",
		"example.org/bus",
		"Append 1 ns 50 % - - 2",
		"",
		"The lines of all rounds are in " + raw + ".",
	}, lines)

	kept, err := os.ReadFile(raw)
	require.NoError(t, err)
	require.Equal(t, output, string(kept))
}

func TestAFailureIsNotATable(t *testing.T) {
	for text, want := range map[string]string{
		output + "FAIL\texample.org/other [build failed]\n": "example.org/other",
		output + "panic: boom\n":                            "boom",
		"ok  	example.org/log	3.1s\n":                       "no benchmark",
		"BenchmarkX-2 10 12 ns/op 3\n":                      "want a unit",
		"BenchmarkX-2 10 twelve ns/op\n":                    "twelve",
	} {
		require.ErrorContains(t, run(strings.NewReader(text), new(strings.Builder), "", results.print), want)
	}
}

func TestAComparisonSaysWhatIsBelow(t *testing.T) {
	const output = `pkg: example.org/sink
BenchmarkSink/100-2     	40	 1500 ns/op	 0.9 ratio	 900 sink-events/s	 1000 plain-events/s	 0.8 want
BenchmarkSink/100-2     	40	 1500 ns/op	 1.1 ratio	 1100 sink-events/s	 1000 plain-events/s	 0.8 want
BenchmarkSink/1000-2    	40	 1500 ns/op	 0.5 ratio	 500 sink-events/s	 1000 plain-events/s	 0.8 want
BenchmarkOther-2        	40	 1500 ns/op
`
	var out strings.Builder
	require.NoError(t, run(strings.NewReader(output), &out, "", results.printRatios))

	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, []string{
		"BENCHMARK SINK EVENTS/S PLAIN EVENTS/S RATIO ± WANT ROUNDS",
		"Sink/100 1000 1000 1.00 10 % 0.8 2",
		"Sink/1000 500 1000 0.50 0 % 0.8 1 below",
	}, lines)
}

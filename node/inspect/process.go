package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"time"
)

// Process returns the parts about the process that runs this code, which began at started.
func Process(started time.Time) []Part {
	return []Part{
		{"goroutines.txt", goroutines},
		{"heap.pb.gz", profile("heap")},
		{"allocs.pb.gz", profile("allocs")},
		{"runtime.json", func(_ context.Context, w io.Writer) error { return figures(w, started) }},
		{"build.txt", build},
	}
}

// Usual returns the parts that every node makes, to be named where no node can be asked for its
// own.
func Usual() []Part {
	return append(Process(time.Time{}), Part{Name: "config.json"}, Part{Name: "disk.json"},
		Part{Name: "tree-events.jsonl"})
}

// goroutines writes the stacks of all goroutines. The runtime stops the program while it collects
// them, so it gets a buffer that grows only as long as they do not fit.
func goroutines(_ context.Context, w io.Writer) error {
	for size := 1 << 20; ; size *= 4 {
		size = min(size, MaxBytes)
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)

		if n < size || size == MaxBytes {
			_, err := w.Write(buf[:n])
			if err == nil && n == MaxBytes { // there is more, of which the runtime does not say how much
				_, err = w.Write([]byte("\n"))
			}
			return err
		}
	}
}

// profile returns a function that writes one of the runtime's profiles.
func profile(name string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error { return pprof.Lookup(name).WriteTo(w, 0) }
}

// runtimeJSON is the part runtime.json.
type runtimeJSON struct {
	PID        int            `json:"pid"`
	Started    time.Time      `json:"started"`
	Now        time.Time      `json:"now"`
	Goroutines int            `json:"goroutines"`
	CPUs       int            `json:"cpus"`
	GOMAXPROCS int            `json:"gomaxprocs"`
	Metrics    map[string]any `json:"metrics"` // of package runtime/metrics, those with one value
}

// figures writes the figures of Go's runtime.
func figures(w io.Writer, started time.Time) error {
	j := runtimeJSON{
		PID: os.Getpid(), Started: started.UTC(), Now: time.Now().UTC(), Goroutines: runtime.NumGoroutine(),
		CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0), Metrics: map[string]any{},
	}

	var samples []metrics.Sample
	for _, d := range metrics.All() {
		samples = append(samples, metrics.Sample{Name: d.Name})
	}
	metrics.Read(samples)

	for _, s := range samples {
		switch s.Value.Kind() {
		case metrics.KindUint64:
			j.Metrics[s.Name] = s.Value.Uint64()
		case metrics.KindFloat64:
			if f := s.Value.Float64(); !math.IsNaN(f) && !math.IsInf(f, 0) {
				j.Metrics[s.Name] = f
			}
		}
	}

	return JSON(w, j)
}

// build writes what the Go toolchain wrote into the program: its version, its modules, its
// settings.
func build(_ context.Context, w io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("the program was built without information about its modules")
	}
	_, err := io.WriteString(w, info.String())
	return err
}

// JSON writes v as indented JSON.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

package engines_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
)

// BenchmarkCast sends casts to an idle engine.
func BenchmarkCast(b *testing.B) {
	withEngines(b, func(dir engines.Directory) {
		to := engines.NewAddress(dir, "a")
		nothing := tell{func(context.Context) {}}
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, engines.Cast(context.Background(), to, nothing))
		}
	})
}

// BenchmarkCallFor calls with a limit.
func BenchmarkCallFor(b *testing.B) {
	withEngines(b, func(dir engines.Directory) {
		to := engines.NewAddress(dir, "a")
		q := ask{nothing}
		b.ReportAllocs()
		for b.Loop() {
			_, err := engines.CallFor(context.Background(), time.Minute, to, q)
			require.NoError(b, err)
		}
	})
}

package supervisor_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// A goroutine profile names the child and the incarnation of each goroutine: that of its service,
// one that it started with Go, and one of a plain go statement. It does so too after a restart of a
// group, in which each child is launched by the goroutine of another.
func TestProfilesNameTheChildOfEachGoroutine(t *testing.T) {
	const size = 5
	up := make(chan struct{}, 3*size)
	start := supervisor.Start(func(ctx context.Context) error {
		waits := func(ctx context.Context) error {
			up <- struct{}{}
			<-ctx.Done()
			return nil
		}
		go func() { _ = waits(ctx) }()
		if err := supervisor.Go(ctx, waits); err != nil {
			return err
		}
		return waits(ctx)
	})

	var list []supervisor.Child
	for i := range size {
		list = append(list, supervisor.Child{ID: strconv.Itoa(i), Start: start})
	}
	r, w := tree(t, supervisor.Spec{Build: children(nested("sub", supervisor.Permanent, supervisor.Spec{
		Strategy: supervisor.OneForAll, Intensity: many(1), Build: children(list...)}))})

	check := func() {
		for range 3 * size {
			<-up
		}

		var profile bytes.Buffer
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
		sub, ok := r.Tree().Find("sub")
		require.True(t, ok)

		for _, c := range sub.Children {
			want := fmt.Sprintf(`"supervisor.child":%q, "supervisor.incarnation":"%d", "supervisor.root":"`, c.Path,
				c.Incarnation)
			n := 0
			for block := range strings.SplitSeq(profile.String(), "\n\n") {
				if strings.Contains(block, want) {
					count, err := strconv.Atoi(regexp.MustCompile(`(\d+) @`).FindStringSubmatch(block)[1])
					require.NoError(t, err)
					n += count
				}
			}
			require.Equal(t, 3, n, "%s in\n%s", want, profile.String())
		}
	}

	check()
	before, ok := r.Tree().Find("sub/2")
	require.True(t, ok)
	require.NoError(t, r.Kill("sub/2", nil))
	until(t, w, 2, at("sub/4"))
	check()
	after, ok := r.Tree().Find("sub/2")
	require.True(t, ok)
	require.NotEqual(t, before.Incarnation, after.Incarnation)
}

package plan

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// outline writes the plan in the words of testdata/design-tree.txt, which is the tree of the
// design, written down by hand.
func outline(b *strings.Builder, p Place, depth int) {
	words := []string{p.ID}
	switch {
	case p.Dynamic:
		words = append(words, "dynamic")
	case p.Supervises():
		words = append(words, p.Strategy.String())
	}

	if p.Supervises() && p.ID != "host" { // the design leaves the host's own limit open
		if p.Intensity.Max == 0 {
			words = append(words, "0")
		} else {
			words = append(words, fmt.Sprintf("%d/%ds", p.Intensity.Max, int(p.Intensity.Period/time.Second)))
		}
	}

	if p.ID == "host" {
		words = append(words, "auto_shutdown="+p.AutoShutdown.String())
	} else {
		words = append(words, p.Restart.String())
	}

	if p.Significant {
		words = append(words, "significant")
	}

	fmt.Fprintf(b, "%s%s\n", strings.Repeat("  ", depth), strings.Join(words, " "))
	for _, c := range p.Children {
		outline(b, c, depth+1)
	}
}

func TestThePlanIsTheDesignsTree(t *testing.T) {
	want, err := os.ReadFile("testdata/design-tree.txt")
	require.NoError(t, err)
	var got strings.Builder
	outline(&got, newPlan(Default, []string{"consensus", "api"}), 0)
	require.Equal(t, string(want), got.String())
}

// `coppice tree --spec` prints each place of the plan on a line of its own, with its strategy and
// limit.
func TestThePrintShowsThePlan(t *testing.T) {
	plan := newPlan(Default, []string{"consensus", "api"})
	lines := strings.Split(strings.TrimSpace(plan.String()), "\n")
	i := 0
	var walk func(p Place)
	walk = func(p Place) {
		require.Contains(t, lines[i], p.ID+" ")
		require.Contains(t, lines[i], p.describe())
		i++
		for _, c := range p.Children {
			walk(c)
		}
	}
	walk(plan)
	require.Len(t, lines, i)
}

func TestProfilesDifferOnlyInLimits(t *testing.T) {
	engines := []string{"consensus", "api"}
	strict := newPlan(Strict, engines)
	require.Equal(t, 0, strict.Find("coppice/node/transactions").Intensity.Max)
	require.Equal(t, 5, strict.Find("coppice/node").Intensity.Max)

	var same func(path string, a, chaos Place)
	same = func(path string, a, chaos Place) {
		require.Equal(t, a.Strategy, chaos.Strategy, path)
		require.Equal(t, a.Restart, chaos.Restart, path)
		require.Equal(t, a.Intensity.Max == 0, chaos.Intensity.Max == 0,
			"%s: a structural zero is a zero in every profile", path)
		require.GreaterOrEqual(t, chaos.Intensity.Max, a.Intensity.Max, path)
		for i := range a.Children {
			same(path+"/"+a.Children[i].ID, a.Children[i], chaos.Children[i])
		}
	}
	same("host", newPlan(Default, engines), newPlan(Chaos, engines))
}

func TestUsersEnginesHangUnderEngines(t *testing.T) {
	p := newPlan(Default, []string{"consensus", "api", "mine"}).Find("coppice/node/engines/mine")
	require.Equal(t, supervisor.Permanent, p.Restart)
	require.Equal(t, supervisor.Abandon, p.Orphan, "a hung engine of the user's does not take the core down")
}

func TestParseProfile(t *testing.T) {
	_, err := ParseProfile("fast")
	require.ErrorContains(t, err, `profile "fast": want one of [default strict chaos]`)
}

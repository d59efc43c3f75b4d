package supervisor_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

func idle(context.Context) (supervisor.Service, error) {
	return supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), nil
}

// sup_flags
func TestRule01_Rule02_Rule03_Flags(t *testing.T) {
	r, _ := tree(t, supervisor.Spec{Name: "empty"}) // sup_start_normal
	got := r.Tree()
	require.Equal(t, supervisor.OneForOne, got.Strategy)
	require.Equal(t, supervisor.Never, got.AutoShutdown)
	require.Equal(t, supervisor.Intensity{Max: 1, Period: 5 * time.Second}, got.Intensity)
	require.NoError(t, r.Stop(ctx))

	built := false
	build := func(context.Context) ([]supervisor.Child, error) { built = true; return nil, nil }

	for want, spec := range map[string]supervisor.Spec{
		"Strategy is Strategy(3), expected OneForOne":     {Strategy: 3},
		"AutoShutdown is AutoShutdown(3), expected Never": {AutoShutdown: 3},
		"Intensity.Max is -1, expected 0 or more":         {Intensity: supervisor.Intensity{Max: -1, Period: 1}},
		"Intensity.Max is 1 without a Period":             {Intensity: supervisor.Intensity{Max: 1}},
		"Intensity.Period is -1ns, expected more than 0":  {Intensity: supervisor.Intensity{Period: -1}},
		"Observers[0] is nil":                             {Observers: []supervisor.Observer{nil}},
		"Name contains a slash, which separates IDs":      {Name: "a/b"},
	} {
		spec.Build = build
		_, err := supervisor.New(spec)
		require.ErrorIs(t, err, supervisor.ErrSpec)
		require.ErrorContains(t, err, want)
	}

	require.False(t, built)
}

// significant_simple: AutoShutdown is not a field of a DynamicSpec, so the combination cannot be
// written.
func TestRule04_Rule70_DynamicSpec(t *testing.T) {
	start := func(context.Context, int) (supervisor.Service, error) { return nil, nil }
	for want, spec := range map[string]supervisor.DynamicSpec[int]{
		"Start is nil":               {},
		"MaxChildren is -1":          {Start: start, MaxChildren: -1},
		"Intensity.Max is 1 without": {Start: start, Intensity: supervisor.Intensity{Max: 1}},
		"Restart is Restart(9)":      {Start: start, Restart: 9},
	} {
		_, err := supervisor.NewDynamic(spec)
		require.ErrorIs(t, err, supervisor.ErrSpec)
		require.ErrorContains(t, err, want)
	}
}

// sup_start_map, sup_start_map_faulty_specs, sup_stop_infinity
func TestRule05_Rule06_Rule31_ChildSpecs(t *testing.T) {
	for want, c := range map[string]supervisor.Child{
		"ID is empty":                     {Start: idle},
		"ID contains a slash":             {ID: "a/b", Start: idle},
		"Start is nil":                    {ID: "a"},
		"Restart is Restart(3)":           {ID: "a", Start: idle, Restart: 3},
		"Ack is Ack(2)":                   {ID: "a", Start: idle, Ack: 2},
		"Orphan is OrphanPolicy(3)":       {ID: "a", Start: idle, Orphan: 3},
		"Shutdown is -2ns, expected":      {ID: "a", Start: idle, Shutdown: -2},
		"StartTimeout is -1ns, expected":  {ID: "a", Start: idle, StartTimeout: -1},
		"Backoff has no Min":              {ID: "a", Start: idle, Backoff: supervisor.Backoff{Max: 1}},
		"Backoff is from 2ns to 1ns":      {ID: "a", Start: idle, Backoff: supervisor.Backoff{Min: 2, Max: 1}},
		"Backoff.Factor is 0.5, expected": {ID: "a", Start: idle, Backoff: supervisor.Backoff{Min: 1, Factor: .5}},
		"Backoff.Jitter is NaN, expected": {ID: "a", Start: idle,
			Backoff: supervisor.Backoff{Min: 1, Jitter: math.NaN()}},
	} {
		err := supervisor.CheckChildren([]supervisor.Child{c})
		require.ErrorIs(t, err, supervisor.ErrSpec, want)
		require.ErrorContains(t, err, want)
	}

	for _, d := range []time.Duration{0, 1, supervisor.Brutal, supervisor.Infinity} {
		require.NoError(t, supervisor.CheckChildren([]supervisor.Child{{ID: "a", Start: idle, Shutdown: d}}))
	}

	r, _ := tree(t, supervisor.Spec{Build: children(
		supervisor.Child{ID: "w", Start: idle}, nested("s", supervisor.Permanent, supervisor.Spec{}),
	)})
	w, err := r.ChildSpec("w")
	require.NoError(t, err)
	require.Equal(t, supervisor.DefaultShutdown, w.Shutdown)
	require.Equal(t, supervisor.DefaultStartTimeout, w.StartTimeout)
	s, err := r.ChildSpec("s")
	require.NoError(t, err)
	require.Equal(t, supervisor.Infinity, s.Shutdown)
	require.Equal(t, supervisor.AckReady, s.Ack)
	_, err = r.ChildSpec("x")
	require.ErrorIs(t, err, supervisor.ErrNotFound)
}

// child_specs_map: the full cross product
func TestRule07_Rule10_SignificantAndAutoShutdown(t *testing.T) {
	for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
		for _, significant := range []bool{false, true} {
			c := supervisor.Child{ID: "a", Start: idle, Restart: restart, Significant: significant}
			for _, auto := range []supervisor.AutoShutdown{supervisor.Never, supervisor.AnySignificant,
				supervisor.AllSignificant} {
				err := supervisor.CheckChildren([]supervisor.Child{c}, auto)
				switch {
				case significant && auto == supervisor.Never: // comes first
					require.ErrorContains(t, err, "AutoShutdown is Never")
				case significant && restart == supervisor.Permanent:
					require.ErrorContains(t, err, "significant and permanent")
				default:
					require.NoError(t, err)
				}
			}

			err := supervisor.CheckChildren([]supervisor.Child{c})
			require.Equal(t, significant && restart == supervisor.Permanent, err != nil)
		}
	}

	r, _ := tree(t, supervisor.Spec{})
	_, err := r.StartChild(ctx, supervisor.Child{ID: "a", Start: idle, Restart: supervisor.Transient,
		Significant: true})
	require.ErrorContains(t, err, "AutoShutdown is Never")
}

// child_specs
func TestRule08_Rule09_AllSpecsAreCheckedBeforeTheFirstStart(t *testing.T) {
	p := newProbe("p")
	for want, second := range map[string]supervisor.Child{
		"the ID is used twice":    p.child(supervisor.Temporary),
		`child "q": Start is nil`: {ID: "q"},
	} {
		s, err := supervisor.New(supervisor.Spec{Build: children(p.child(0), second)})
		require.NoError(t, err)
		_, err = s.Start(ctx)
		require.ErrorIs(t, err, supervisor.ErrSpec)
		require.ErrorContains(t, err, want)
		require.Zero(t, p.began())
	}
}

func TestRule46_Rule47_Rule64_Lint(t *testing.T) {
	spec := supervisor.Spec{Strategy: supervisor.OneForAll,
		Intensity: supervisor.Intensity{Max: 3, Period: 10 * time.Second}, AutoShutdown: supervisor.AnySignificant}

	warnings := supervisor.Lint(spec, []supervisor.Child{
		{ID: "slow", Shutdown: 5 * time.Second},
		{ID: "late", Backoff: supervisor.Backoff{Min: time.Second, Max: time.Minute}},
		{ID: "fine", Shutdown: time.Second},
	})
	require.Len(t, warnings, 3)
	require.Contains(t, warnings[0], `child "slow": a group restart`)
	require.Contains(t, warnings[1], `child "late": with restarts up to 1m0s apart`)
	require.Contains(t, warnings[2], "no child is significant")

	sub := nested("sub", supervisor.Transient, supervisor.Spec{})
	sub.Shutdown = time.Second
	_, w := tree(t, supervisor.Spec{Build: children(sub)})
	require.Contains(t, until[supervisor.Warned](t, w, 1, nil).Warning, "OTP rule 46")
	require.Contains(t, until[supervisor.Warned](t, w, 2, nil).Warning, "OTP rule 64")
	sub.Kind = supervisor.SupervisorKind // declared, so it is known before it runs, and warned of once
	require.Len(t, supervisor.Lint(supervisor.Spec{}, []supervisor.Child{sub}), 2)
	r, w := tree(t, supervisor.Spec{Build: children(sub)})
	require.Equal(t, 2, counted[supervisor.Warned](t, r, w))
}

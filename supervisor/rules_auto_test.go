package supervisor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

var modes = []supervisor.AutoShutdown{supervisor.AnySignificant, supervisor.AllSignificant}

// nonsignificant_temporary, nonsignificant_transient
func TestRule65_Rule67_NonSignificantNeverTriggers(t *testing.T) {
	for _, mode := range modes {
		for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Temporary} {
			p, s := newProbe("p"), newProbe("s")
			r, w := tree(t, supervisor.Spec{AutoShutdown: mode,
				Build: children(p.child(restart), s.significant(restart))})
			<-p.starts
			p.end(nil)
			until(t, w, 1, exitOf("p"))
			require.ErrorIs(t, r.DeleteChild(ctx, "s"), supervisor.ErrRunning) // it lives
		}
	}
}

// significant_temporary, significant_transient
func TestRule65_Rule66_Rule68_Rule69_Triggers(t *testing.T) {
	for _, mode := range modes {
		for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Temporary} {
			for _, err := range []error{nil, supervisor.ErrShutdown, errCrash} {
				a, b, other := newProbe("a"), newProbe("b"), newProbe("other")
				r, w := tree(t,
					supervisor.Spec{AutoShutdown: mode, Intensity: many(9),
						Build: children(other.child(0), a.significant(restart), b.significant(restart))})
				<-a.starts
				<-b.starts
				a.end(err)

				if restart == supervisor.Transient && err == errCrash {
					<-a.starts // restarted: no end for good
					require.ErrorIs(t, r.DeleteChild(ctx, "a"), supervisor.ErrRunning)
					require.NoError(t, r.Stop(ctx))
					continue
				}

				last := "a"

				if mode == supervisor.AllSignificant {
					until(t, w, 1, exitOf("a"))
					require.ErrorIs(t, r.DeleteChild(ctx, "b"), supervisor.ErrRunning)
					b.end(err)
					last = "b"
				}

				got := r.Wait()
				require.ErrorIs(t, got, supervisor.ErrShutdown)
				var e *supervisor.AutoShutdownError
				require.ErrorAs(t, got, &e)
				require.Equal(t, last, e.Child)
				if err != nil {
					require.ErrorIs(t, got, err)
				}

				require.Equal(t, 1, counted[supervisor.AutoShutdownTriggered](t, r, w))
				history := steps(r)
				require.Equal(t, "-other", history[len(history)-1])
			}
		}
	}
}

// terminate_child never triggers, nor does an end because of a sibling (significant_bystander, E
// 12).
func TestRule67_TerminateAndBystanders(t *testing.T) {
	for _, mode := range modes {
		for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Temporary} {
			s := newProbe("s")
			r, _ := tree(t, supervisor.Spec{AutoShutdown: mode,
				Build: children(s.significant(restart), newProbe("x").child(0))})
			require.NoError(t, r.TerminateChild(ctx, "s"))
			require.ErrorIs(t, r.DeleteChild(ctx, "x"), supervisor.ErrRunning)

			for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.RestForOne,
				supervisor.OneForAll} {
				s, p := newProbe("s"), newProbe("p")
				r, w := tree(t,
					supervisor.Spec{Strategy: strategy, AutoShutdown: mode,
						Build: children(p.child(0), s.significant(restart))})
				<-p.starts
				p.end(errCrash)
				<-p.starts
				w.Settle(t, r)
				require.ErrorIs(t, r.DeleteChild(ctx, "p"), supervisor.ErrRunning)
				require.Zero(t, counted[supervisor.AutoShutdownTriggered](t, r, w))
			}
		}
	}
}

// significant_escalation
func TestRule69_Cascade(t *testing.T) {
	leaf := newProbe("leaf")
	inner := supervisor.Spec{AutoShutdown: supervisor.AnySignificant,
		Build: children(leaf.significant(supervisor.Transient))}
	significant := nested("sub", supervisor.Transient, inner)
	significant.Significant = true
	r, _ := tree(t, supervisor.Spec{AutoShutdown: supervisor.AnySignificant, Build: children(significant)})
	<-leaf.starts
	leaf.end(nil)
	require.ErrorIs(t, r.Wait(), supervisor.ErrShutdown)

	r, w := tree(t, supervisor.Spec{AutoShutdown: supervisor.AnySignificant,
		Build: children(nested("sub", supervisor.Transient, inner), newProbe("x").significant(supervisor.Temporary))})
	<-leaf.starts
	leaf.end(nil)
	require.Equal(t, supervisor.Shutdown, until(t, w, 1, exitOf("sub")).Exit.Class)
	require.ErrorIs(t, r.DeleteChild(ctx, "x"), supervisor.ErrRunning) // it stops there
}

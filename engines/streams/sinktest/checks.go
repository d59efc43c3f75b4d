package sinktest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/coppice-go/coppice/engines/streams"
)

// An empty target has a zero cursor, also after a claim, and Observe claims nothing.
func checkEmpty(k *kit) error {
	if err := k.holds(); err != nil {
		return err
	}

	s, c, err := k.open()
	if err != nil {
		return err
	}
	if !c.Empty() {
		return fmt.Errorf("Open: the cursor is %s, want empty", c)
	}
	if err := k.close(s); err != nil {
		return fmt.Errorf("Close: %w", err)
	}

	return k.holds()
}

// What is written is there, in whole units, in order, and the cursor says so.
func checkWrite(k *kit) error {
	units := Units(1, 30)
	s, _, err := k.open()
	if err != nil {
		return err
	}

	for _, n := range []int{0, 1, 2, 10, len(units)} {
		from := max(n-9, 0)
		switch n {
		case 0:
			continue
		case 1, 2:
			from = n - 1
		case 10:
			from = 2
		default:
			from = 10
		}
		if err := k.write(s, units[from:n]...); err != nil {
			return fmt.Errorf("Write of units %d to %d: %w", from, n-1, err)
		}
		if err := k.holds(units[:n]...); err != nil {
			return fmt.Errorf("after %d units: %w", n, err)
		}
	}

	return k.close(s)
}

// A delivery without events is accepted, and changes no more than the beat.
func checkBeat(k *kit) error {
	units := Units(2, 3)
	s, _, err := k.open()
	if err != nil {
		return err
	}

	for n := range units {
		if err := k.write(s); err != nil {
			return fmt.Errorf("a beat after %d units: %w", n, err)
		}
		if err := k.write(s, units[n]); err != nil {
			return err
		}
	}
	if err := k.write(s); err != nil {
		return err
	}

	return errors.Join(k.holds(units...), k.close(s))
}

// Units that the sink has are skipped. Rule R6, item 9.
func checkSkip(k *kit) error {
	units := Units(3, 12)
	s, _, err := k.open()
	if err != nil {
		return err
	}

	if err := k.write(s, units[:6]...); err != nil {
		return err
	}
	for _, from := range []int{0, 3, 5} {
		if err := k.write(s, units[from:6]...); err != nil {
			return fmt.Errorf("units %d to 5 again: %w", from, err)
		}
		if err := k.holds(units[:6]...); err != nil {
			return fmt.Errorf("after units %d to 5 again: %w", from, err)
		}
	}
	if err := k.write(s, units[2:]...); err != nil {
		return fmt.Errorf("old units and new ones: %w", err)
	}

	return errors.Join(k.holds(units...), k.close(s))
}

// A unit that does not rest on the cursor is refused, and changes nothing.
func checkOrder(k *kit) error {
	units := Units(4, 12)

	wrong := func(n int, what string, units ...Unit) error {
		s, _, err := k.open()
		if err != nil {
			return err
		}
		if err := k.write(s, units...); streams.ClassOf(err) != streams.BadOrder {
			return fmt.Errorf("%s: Write returned %v, want an error of class %s", what, err, streams.BadOrder)
		}
		return errors.Join(k.holds(Units(4, 12)[:n]...), k.close(s))
	}

	if err := wrong(0, "a block first", units[3]); err != nil {
		return err
	}

	s, _, err := k.open()
	if err != nil {
		return err
	}
	if err := errors.Join(k.write(s, units[:5]...), k.close(s)); err != nil {
		return err
	}

	return wrong(5, "a unit was left out", units[6])
}

// A newer claim ends the older one, whatever the older one does then. Rule R23, item 27.
func checkFence(k *kit) error {
	units := Units(5, 20)
	a, _, err := k.open()
	if err != nil {
		return err
	}
	if err := k.write(a, units[:4]...); err != nil {
		return err
	}

	low, err := k.sink()
	if err != nil {
		return err
	}
	ctx, cancel := k.ctx()
	_, err = low.Open(ctx, k.again())
	cancel()
	if streams.ClassOf(err) != streams.Fenced {
		return fmt.Errorf("Open with an epoch that was claimed before: %v, want class %s", err, streams.Fenced)
	}
	if err := k.write(a, units[4]); err != nil {
		return fmt.Errorf("the refused claim harmed the writer: %w", err)
	}

	b, c, err := k.open()
	if err != nil {
		return err
	}
	if err := stands(c, units[4]); err != nil {
		return fmt.Errorf("the second claim: %w", err)
	}

	for _, d := range [][]Unit{{units[5]}, units[3:8], {}} {
		if err := k.write(a, d...); streams.ClassOf(err) != streams.Fenced {
			return fmt.Errorf("the fenced writer wrote %d units: %v, want class %s", len(d), err, streams.Fenced)
		}
		if err := k.holds(units[:5]...); err != nil {
			return fmt.Errorf("after the fenced writer: %w", err)
		}
	}

	if err := k.write(b, units[5:9]...); err != nil {
		return err
	}
	k.close(a) // of a fenced sink: any answer
	if err := k.write(b, units[9:]...); err != nil {
		return fmt.Errorf("the Close of the fenced writer harmed its successor: %w", err)
	}

	return errors.Join(k.holds(units...), k.close(b))
}

// A delivery that is cut at any event leaves whole units, and the next claim goes on at the next
// one. Items 5 and 8.
func checkResume(k *kit) error {
	units := Units(6, 10)
	return k.cuts(units, k.every, func(s streams.Sink) error { return k.close(s) })
}

// The same after a sink that is abandoned, as by kill -9, with what stores the data. Item 14.
func checkKills(k *kit) error {
	step := k.every
	if k.target.Kill != nil {
		step *= 9
	}
	return k.cuts(Units(7, 10), step, func(streams.Sink) error {
		if k.target.Kill == nil {
			return nil
		}
		return k.target.Kill()
	})
}

// cuts writes units by deliveries that are cut, each at a later event, and ends each sink.
func (k *kit) cuts(units []Unit, step int, end func(streams.Sink) error) error {
	s, _, err := k.open()
	if err != nil {
		return err
	}
	if err := errors.Join(k.write(s, units[0]), k.close(s)); err != nil {
		return err
	}
	have := 1

	for cut := 0; have < len(units); cut += step {
		s, c, err := k.open()
		if err != nil {
			return fmt.Errorf("after cut %d: %w", cut, err)
		}
		n := standing(c, units)
		if n < have {
			return fmt.Errorf("cut %d: the cursor is %s, but %d units were acknowledged", cut, c, have)
		}
		have = n
		if err := k.holds(units[:have]...); err != nil {
			return fmt.Errorf("after cut %d: %w", cut, err)
		}

		limit, err := k.limitOf(s)
		if err != nil {
			return err
		}
		d := deliver(limit, units[have:]...).cutAt(cut % 20)
		err = k.deliver(s, d)
		switch {
		case d.at < len(d.all()) && !errors.Is(err, errCut):
			return fmt.Errorf("cut %d: Write returned %v, want the error of Next", cut, err)
		case d.at == len(d.all()) && err != nil:
			return fmt.Errorf("cut %d: %w", cut, err)
		case err == nil:
			have = len(units)
		}

		if err := end(s); err != nil {
			return fmt.Errorf("end of the sink after cut %d: %w", cut, err)
		}
		if cut > 60*step {
			if err := k.finish(units); err != nil {
				return err
			}
			have = len(units)
		}
	}

	return k.holds(units...)
}

// finish writes what is left of units.
func (k *kit) finish(units []Unit) error {
	s, c, err := k.open()
	if err != nil {
		return err
	}
	return errors.Join(k.write(s, units[standing(c, units):]...), k.close(s))
}

// standing returns how many of the units a cursor has behind it, or -1.
func standing(c streams.Cursor, units []Unit) int {
	if c.Empty() {
		return 0
	}
	for i, u := range units {
		if stands(c, u) == nil {
			return i + 1
		}
	}
	return -1
}

// Payloads at the limit, one byte below and above it, and far above it come back whole. Item 48.
func checkParts(k *kit) error {
	first := Units(8, 1)
	s, _, err := k.open()
	if err != nil {
		return err
	}
	if err := k.write(s, first...); err != nil {
		return err
	}

	limit, err := k.limitOf(s)
	if err != nil {
		return err
	}
	sizes := []int{limit - 1, limit, limit + 1, 2*limit + 7, 1}
	if limit > 1<<20 && testing.Short() {
		sizes = []int{limit, limit + 1}
	}
	big := Big(first[len(first)-1].Position(), sizes...)
	if err := k.write(s, big); err != nil {
		return fmt.Errorf("payloads of %v bytes: %w", sizes, err)
	}

	return errors.Join(k.holds(append(first, big)...), k.close(s))
}

// A sink that can rewind removes exactly the units after a position.
func checkRewind(k *kit) error {
	units := Units(9, 10)
	s, _, err := k.open()
	if err != nil {
		return err
	}
	r, ok := s.(streams.Rewinder)
	if !ok {
		return k.close(s)
	}
	if err := k.write(s, units...); err != nil {
		return err
	}

	for _, keep := range []int{8, 8, 3, 1} {
		to := units[keep-1].Position()
		ctx, cancel := k.ctx()
		c, err := r.Rewind(ctx, &to)
		cancel()
		if err != nil {
			return fmt.Errorf("Rewind to %s: %w", to, err)
		}
		if err := stands(c, units[keep-1]); err != nil {
			return fmt.Errorf("Rewind: %w", err)
		}
		if err := k.holds(units[:keep]...); err != nil {
			return fmt.Errorf("after Rewind to %s: %w", to, err)
		}
	}

	if err := k.write(s, units[1:]...); err != nil {
		return fmt.Errorf("after Rewind: %w", err)
	}

	return errors.Join(k.holds(units...), k.close(s))
}

// testDamage plants each fault and expects Verify to name it. Item 44.
func testDamage(t *testing.T, f streams.Factory, rig Rig) {
	for fault := range rig.Target(t).Damage {
		t.Run(string(fault), func(t *testing.T) {
			k := newKit(t, f, rig)
			if err := k.damage(fault); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (k *kit) damage(fault streams.Fault) error {
	units := Units(10, 10)
	s, _, err := k.open()
	if err != nil {
		return err
	}
	if err := errors.Join(k.write(s, units...), k.close(s), k.target.Damage[fault]()); err != nil {
		return err
	}

	s, err = k.sink()
	if err != nil {
		return err
	}
	ctx, cancel := k.ctx()
	defer cancel()
	limit, err := k.limitOf(s)
	if err != nil {
		return err
	}
	report, err := k.verify(ctx, s, limit, units...)
	if err != nil {
		return err
	}

	for _, finding := range report.Findings {
		if finding.Fault == fault {
			return nil
		}
	}

	return fmt.Errorf("planted %s; Verify found %v", fault, report.Findings)
}

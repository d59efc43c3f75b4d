package sinktest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// Blocks returns n units with so many changes each, of 64 bytes, after the start of a chain.
func Blocks(n, changes int) []Unit {
	value := make([]byte, 64)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}

	units := []Unit{NewUnit(nil, &streams.Started{InitialHeight: 1})}
	for range n {
		bodies := []streams.Body{&streams.Block{Txs: 1}}
		for i := range changes {
			bodies = append(bodies, &streams.Change{Key: fmt.Appendf(nil, "account/%06d", i), Value: value})
		}
		at := units[len(units)-1].Position()
		units = append(units, NewUnit(&at, bodies...))
	}

	return units
}

// Feed returns a delivery of units that costs nothing. A sink may spoil what it is given.
func Feed(units ...Unit) streams.Delivery { return &feed{units: units} }

type feed struct {
	units []Unit
	n     int
}

func (f *feed) Next(context.Context) (streams.Event, error) {
	if len(f.units) == 0 {
		return streams.Event{}, io.EOF
	}
	e := f.units[0][f.n]
	if f.n++; f.n == len(f.units[0]) {
		f.units, f.n = f.units[1:], 0
	}
	return e, nil
}

func (f *feed) Credit(int) { /* there is no bound */ }

// TxBlocks returns n units with so many transactions each, which emit events of one attribute,
// after the start of a chain.
func TxBlocks(n, txs, events int) []Unit {
	units := []Unit{NewUnit(nil, &streams.Started{InitialHeight: 1})}
	for range n {
		bodies := []streams.Body{&streams.Block{Txs: uint64(txs)}}
		for i := range txs {
			tx := uint32(i)
			bodies = append(bodies, &streams.Tx{Number: tx, ID: hash(fmt.Sprint("tx", i)), Backend: "bank", Size: 100})
			for j := range events {
				bodies = append(bodies, &streams.Emitted{Tx: tx, Type: "transfer",
					Attributes: []streams.Attribute{{Key: "amount", Value: fmt.Sprint(i, j)}}})
			}
			bodies = append(bodies, &streams.Outcome{Tx: tx})
		}
		at := units[len(units)-1].Position()
		units = append(units, NewUnit(&at, bodies...))
	}

	return units
}

// Compare writes units, one at a time, by a sink and by a plain loop of its client in turn, and
// reports the events of each in a second, the ratio of the medians, and the ratio that item 55
// wants. The first unit, the start of a chain, is not measured.
func Compare(b *testing.B, want float64, units []Unit, sink, plain func(Unit) error) {
	b.Helper()
	var ours, theirs []time.Duration
	timed := func(list *[]time.Duration, f func(Unit) error, u Unit) {
		start := time.Now()
		if err := f(u); err != nil {
			b.Fatal(err)
		}
		*list = append(*list, time.Since(start))
	}

	b.ResetTimer()
	for i, u := range units {
		first, second := func() { timed(&ours, sink, u) }, func() { timed(&theirs, plain, u) }
		if i%2 == 1 {
			first, second = second, first
		}
		first()
		second()
	}
	b.StopTimer()

	median := func(list []time.Duration) float64 {
		list = list[1:]
		slices.Sort(list)
		return list[len(list)/2].Seconds()
	}
	n := float64(len(units[len(units)-1]))
	b.ReportMetric(n/median(ours), "sink-events/s")
	b.ReportMetric(n/median(theirs), "plain-events/s")
	b.ReportMetric(median(theirs)/median(ours), "ratio")
	b.ReportMetric(want, "want")
}

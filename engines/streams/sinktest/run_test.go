package sinktest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
)

func rig(testing.TB) Target { return Target{Definition: streams.Definition{Name: "memory"}} }

func TestASinkThatKeepsTheContractPasses(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, memoryFactory(mistakes{}, new(memory)), Rig{Target: rig})
			require.NoError(t, c.run(k))
		})
	}
}

// Items 70 and 72: each planted mistake is caught.
func TestTheKitCatchesPlantedMistakes(t *testing.T) {
	for name, m := range map[string]mistakes{
		"cursor outside of the step":  {cursorApart: true},
		"acknowledged before kept":    {ackEarly: true},
		"no fence":                    {noFence: true},
		"no skip":                     {noSkip: true, noOrder: true},
		"no order":                    {noOrder: true},
		"half units":                  {halfUnits: true},
		"memory of an event is kept":  {reusesMemory: true},
		"no credit":                   {noCredit: true},
		"Close harms the successor":   {closeResets: true},
		"only the first part is kept": {dropsParts: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range checks {
				k := newKit(t, memoryFactory(m, new(memory)), Rig{Target: rig, Timeout: time.Second})
				if err := c.run(k); err != nil {
					t.Logf("%s: %v", c.name, err)
					return
				}
			}
			t.Error("no check caught it")
		})
	}
}

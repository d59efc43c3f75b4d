package main

import (
	"context"
	"testing"

	"github.com/coppice-go/coppice/engines/rounds/roundstest"
)

// Agents are killed, and payloads are lost and late: the agents still go where most want to.
func TestLunch(t *testing.T) {
	choose := func(ctx context.Context) (string, error) {
		if roundstest.AgentOf(ctx) == "agent3" {
			return "noodles", nil
		}
		return "canteen", nil
	}

	for seed := range uint64(10) {
		r := roundstest.Run(t, Service(choose), roundstest.Options{Seed: seed + 1, Blocks: 300, Delay: 2, Loss: 0.1,
			Kills: 0.2, Down: 4})
		lunches := r.State.App.Lunches
		if len(lunches) < 3 {
			t.Fatalf("seed %d: %d lunches, in round %s", seed+1, len(lunches), r.State.Round)
		}
		for _, place := range lunches {
			if place != "canteen" {
				t.Errorf("seed %d: lunch at %s", seed+1, place)
			}
		}
	}
}

package command

import (
	"context"
	"os"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

type addedUp struct {
	Sum int `json:"sum"`
}

// adding returns the table of a service that adds up to three and ends.
func adding() rounds.Table[addedUp] {
	return rounds.Table[addedUp]{
		Label: "AddingAbciApp", Start: "add", Timeouts: rounds.Timeouts{rounds.Timeout: 10 * time.Second},
		Rounds: rounds.Rows[addedUp]{
			"add": {Round: rounds.Same(func(_ context.Context, s addedUp) (int, error) { return s.Sum + 1, nil },
				func(s addedUp, n int) addedUp { return addedUp{s.Sum + n} }),
				On: rounds.On{rounds.Done: "sum", rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"}},
			"sum": {Round: rounds.Final[addedUp]()},
		}}
}

// adder is the main of a program with a service.
func adder() {
	os.Exit(Main(Program{Rounds: RoundsOf(rounds.Compose("AddingService", nil, adding()))}))
}

// broken is the main of a program whose service has a fault.
func broken() {
	t := adding()
	t.Timeouts[rounds.Timeout] = 0
	os.Exit(Main(Program{Rounds: RoundsOf(rounds.Compose("BrokenService", nil, t))}))
}

// stuck is the main of a program whose service has a dead end that its tables do not show, and
// another end than the adder's.
func stuck() {
	t := adding()
	t.Timeouts = nil
	t.Rounds["add"] = rounds.Row[addedUp]{Round: t.Rounds["add"].Round,
		On: rounds.On{rounds.Done: "send", rounds.None: "add", rounds.NoMajority: "add"}}
	t.Rounds["send"] = rounds.Row[addedUp]{On: rounds.On{rounds.Done: "sum", rounds.Fail: "sum"},
		Round: rounds.Keeper(func(addedUp) rounds.Agent { return "nobody" },
			func(_ context.Context, s addedUp) (int, error) { return s.Sum, nil },
			func(s addedUp, _ int) addedUp { return s })}
	os.Exit(Main(Program{Rounds: RoundsOf(rounds.Compose("StuckService", nil, t))}))
}

package rounds_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

// A service of one app: agents agree on a number, and then the app is over.
func ExampleMachine_Step() {
	type state struct{ Agreed int }
	app := rounds.Table[state]{
		Label:    "NumberAbciApp",
		Start:    "agree",
		Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Rounds: rounds.Rows[state]{
			"agree": {
				Round: rounds.Same(
					func(context.Context, state) (int, error) { return 42, nil }, // what an agent says
					func(s state, n int) state { s.Agreed = n; return s }),       // what the agreement does
				On: rounds.On{rounds.Done: "over", rounds.None: "agree", rounds.NoMajority: "agree",
					rounds.Timeout: "agree"},
			},
			"over": {Round: rounds.Final[state]()},
		},
	}

	agents, _ := rounds.NewAgents(0, "anna", "ben", "cleo", "dora")
	m := rounds.Machine[state]{Service: rounds.Compose("NumberService", nil, app), Agents: agents}
	st := m.Service.Begin(agents)

	block := rounds.Block{Place: rounds.Place{Height: 1}, Time: time.Unix(1000, 0)}
	for _, a := range []rounds.Agent{"anna", "ben", "mallory", "dora"} {
		block.Payloads = append(block.Payloads, rounds.Payload{Agent: a, Label: "NumberAbciApp", Count: st.Count,
			Bytes: []byte("42")})
	}
	st, report := m.Step(st, block)

	fmt.Println(report.Refusals[0])
	fmt.Println(report.Ended[0].Round, report.Ended[0].Event, st.Round, st.App.Agreed)
	// Output:
	// payload of mallory for NumberAbciApp, count 1: stranger
	// agree DONE over 42
}

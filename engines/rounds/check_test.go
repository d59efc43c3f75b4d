package rounds_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/coppice-go/coppice/engines/rounds"
)

// changed returns the oracle's app with a change.
func changed(change func(*rounds.Table[oracle])) rounds.Table[oracle] {
	app := oracleApp()
	app.Rounds = maps.Clone(app.Rounds)
	change(&app)
	return app
}

func on(app *rounds.Table[oracle], name rounds.Name, change func(rounds.On)) {
	row := app.Rounds[name]
	row.On = maps.Clone(row.On)
	if row.On == nil {
		row.On = rounds.On{}
	}
	change(row.On)
	app.Rounds[name] = row
}

// Each fault of a table is named, with round, event and the fix. Checklist 76.
func TestCheckNamesEachFault(t *testing.T) {
	require.Empty(t, oracleApp().Check())
	ask := func(context.Context, oracle) (int, error) { return 0, nil }

	for name, c := range map[string]struct {
		change func(*rounds.Table[oracle])
		want   string
	}{
		"an event without a transition": {
			func(a *rounds.Table[oracle]) { on(a, estimate, func(o rounds.On) { delete(o, rounds.NoMajority) }) },
			"OracleAbciApp, round estimate, event NO_MAJORITY: the round emits it, and no transition takes it; add " +
				"a transition",
		},
		"a round never reached": {
			func(a *rounds.Table[oracle]) {
				a.Rounds["lost"] = rounds.Row[oracle]{Round: rounds.DifferentUntilAll(ask, nil),
					On: rounds.On{rounds.Done: finished}}
			},
			"OracleAbciApp, round lost: the round is never reached; add a transition to it, or remove it",
		},
		"a timeout that no transition names": {
			func(a *rounds.Table[oracle]) {
				a.Timeouts = rounds.Timeouts{rounds.Timeout: time.Second, "LATE": time.Second}
			},
			"OracleAbciApp, event LATE: no transition names the timeout; remove it, or add a transition",
		},
		"a transition for an event that the round never emits": {
			func(a *rounds.Table[oracle]) { on(a, observe, func(o rounds.On) { o[rounds.Fail] = finished }) },
			"OracleAbciApp, round observe, event FAIL: the round never emits it; remove the transition, or add a " +
				"timeout of that name",
		},
		"a final state with transitions": {
			func(a *rounds.Table[oracle]) { on(a, finished, func(o rounds.On) { o[rounds.Done] = observe }) },
			"OracleAbciApp, round finished, event DONE: a final round has a transition; remove the transition, or " +
				"choose another type of round",
		},
		"a timeout of zero": {
			func(a *rounds.Table[oracle]) { a.Timeouts = rounds.Timeouts{rounds.Timeout: 0} },
			"OracleAbciApp, event ROUND_TIMEOUT: the timeout is 0s; give it a positive duration",
		},
		"a bad name": {
			func(a *rounds.Table[oracle]) {
				a.Rounds["Fin1"] = a.Rounds[finished]
				on(a, estimate, func(o rounds.On) { o[rounds.None] = "Fin1" })
			},
			"OracleAbciApp, round Fin1: the name has characters other than a to z and underscores; rename it",
		},
		"a transition to nowhere": {
			func(a *rounds.Table[oracle]) { on(a, estimate, func(o rounds.On) { o[rounds.None] = "nowhere" }) },
			"OracleAbciApp, round estimate, event NONE: the transition leads to nowhere, which the app does not " +
				"have; add the round, or go to another",
		},
		"a dead end": {
			func(a *rounds.Table[oracle]) {
				a.Rounds["stuck"] = rounds.Row[oracle]{Round: rounds.DifferentUntilAll(ask, nil),
					On: rounds.On{rounds.Done: "stuck"}}
				on(a, estimate, func(o rounds.On) { o[rounds.None] = "stuck" })
			},
			"OracleAbciApp, round stuck: dead end: no final round is reached from here; add a transition that leads " +
				"to a final round",
		},
		"a start that is not there": {
			func(a *rounds.Table[oracle]) { a.Also = []rounds.Name{"begin"} },
			"OracleAbciApp, round begin: the app begins in a round that it does not have; add it to Rounds, or begin " +
				"in another round",
		},
		"a row without a round": {
			func(a *rounds.Table[oracle]) {
				a.Rounds["none"] = rounds.Row[oracle]{On: rounds.On{rounds.Timeout: finished}}
				on(a, estimate, func(o rounds.On) { o[rounds.None] = "none" })
			},
			"OracleAbciApp, round none: the row has no round; set Round",
		},
		"a label": {
			func(a *rounds.Table[oracle]) { a.Label = "Oracle" },
			`Oracle: label "Oracle" does not end in AbciApp; choose a label such as OracleAbciApp`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			faults := changed(c.change).Check()
			require.Len(t, faults, 1)
			require.EqualError(t, faults[0], c.want)
		})
	}
}

func TestCheckOfAServiceNamesEachFault(t *testing.T) {
	registration, reset := rounds.RegistrationApp[oracle](), rounds.ResetApp[oracle]()
	links := rounds.Links{rounds.Registered: observe, finished: rounds.ResetAndPause, rounds.PeriodEnded: observe,
		rounds.PeriodFailed: rounds.Registration}
	with := func(from, to rounds.Name) rounds.Links {
		out := maps.Clone(links)
		out[from] = to
		return out
	}
	slow := changed(func(a *rounds.Table[oracle]) {
		a.Label, a.Start, a.Keep = "SlowAbciApp", "slow_observe", nil
		a.Rounds = rounds.Rows[oracle]{"slow_observe": a.Rounds[observe], "slow_estimate": a.Rounds[estimate],
			"slow_finished": a.Rounds[finished]}
		rename := func(o rounds.On) {
			for e, n := range o {
				o[e] = "slow_" + n
			}
		}
		on(a, "slow_observe", rename)
		on(a, "slow_estimate", rename)
		a.Timeouts = rounds.Timeouts{rounds.Timeout: time.Minute}
	})

	for name, c := range map[string]struct {
		service *rounds.Service[oracle]
		want    string
	}{
		"a round in two apps": {
			rounds.Compose("S", nil, oracleApp(), changed(func(a *rounds.Table[oracle]) {
				a.Label, a.Keep = "TwinAbciApp", nil
			})),
			"S, round observe: the round is in two apps, OracleAbciApp and TwinAbciApp; rename one",
		},
		"a link from no final": {rounds.Compose("S", with(estimate, rounds.ResetAndPause), registration,
			oracleApp(), reset),
			"S, round estimate: the link to reset_and_pause does not begin at a final round; link a final round"},
		"a link to no start": {rounds.Compose("S", with(finished, estimate), registration, oracleApp(), reset),
			"S, round finished: the link ends at estimate, in which no app begins; link to the start of an app, or " +
				"add the round to Also"},
		"one event with two timeouts": {rounds.Compose("S", links, registration, oracleApp(), reset, slow),
			"S, event ROUND_TIMEOUT: one event with two timeouts: 7s in OracleAbciApp, 1m0s in SlowAbciApp; give one " +
				"of them another name"},
		"two Keeps": {rounds.Compose("S", links, registration, oracleApp(), changed(func(a *rounds.Table[oracle]) {
			*a = slow
			a.Timeouts = rounds.Timeouts{rounds.Timeout: 7 * time.Second}
			a.Keep = func(o oracle) oracle { return o }
		}), reset), "S: 2 apps have a Keep; keep what outlives a period in one of them"},
		"a background round that never starts": {rounds.Compose("S", links, registration, oracleApp(), reset).Beside(
			rounds.Background[oracle]{Label: "B", Kind: rounds.Normal, Round: rounds.Voting[oracle](nil, nil),
				On: rounds.Fail, App: &slow}),
			"S, event FAIL: background round B never emits the event that starts its app; choose one of [DONE " +
				"NEGATIVE NONE NO_MAJORITY]"},
		"an ever running one with an app": {rounds.Compose("S", links, registration, oracleApp(), reset).Beside(
			rounds.Background[oracle]{Label: "B", Kind: rounds.EverRunning, Round: rounds.Voting[oracle](nil, nil),
				On: rounds.Done}),
			"S, event DONE: background round B is ever running and starts an app; remove App and On"},
		"no app": {rounds.Compose[oracle]("S", nil), "S: the service has no app; give Compose a table"},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			for _, f := range c.service.Check() {
				texts = append(texts, f.Error())
			}
			require.Contains(t, texts, c.want)
		})
	}
	require.Empty(t, rounds.Compose("S", links, registration, oracleApp(), reset).Check())
}

// dfa is what readers of an fsm_specification load, and the conditions that they check. Checklist
// 77; the original's own class is not to be had here, so this is a small reader of its published
// format.
type dfa struct {
	Label       string            `yaml:"label"`
	States      []string          `yaml:"states"`
	Start       string            `yaml:"default_start_state"`
	Starts      []string          `yaml:"start_states"`
	Finals      []string          `yaml:"final_states"`
	Alphabet    []string          `yaml:"alphabet_in"`
	Transitions map[string]string `yaml:"transition_func"`
}

func load(t *testing.T, text string) dfa {
	var d dfa
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&d), text)

	require.Contains(t, d.Starts, d.Start)
	require.Subset(t, d.States, d.Starts)
	require.Subset(t, d.States, d.Finals)
	used := map[string]bool{}
	for from, to := range d.Transitions {
		state, event, ok := strings.Cut(strings.Trim(from, "()"), ", ")
		require.True(t, ok, from)
		require.Contains(t, d.States, state)
		require.Contains(t, d.Alphabet, event)
		require.Contains(t, d.States, to)
		require.NotContains(t, d.Finals, state)
		used[event] = true
	}
	require.Len(t, used, len(d.Alphabet), "an event that no transition uses")
	for _, s := range d.States {
		require.True(t, strings.HasSuffix(s, "Round"), s)
	}
	return d
}

func TestYAML(t *testing.T) {
	d := load(t, oracleApp().YAML())
	require.Equal(t, dfa{
		Label: "OracleAbciApp", States: []string{"EstimateRound", "FinishedRound", "ObserveRound"},
		Start:  "ObserveRound",
		Starts: []string{"ObserveRound"}, Finals: []string{"FinishedRound"},
		Alphabet: []string{"DONE", "NONE", "NO_MAJORITY", "ROUND_TIMEOUT"},
		Transitions: map[string]string{
			"(ObserveRound, DONE)": "EstimateRound", "(ObserveRound, ROUND_TIMEOUT)": "ObserveRound",
			"(EstimateRound, DONE)": "FinishedRound", "(EstimateRound, NONE)": "ObserveRound",
			"(EstimateRound, NO_MAJORITY)": "ObserveRound", "(EstimateRound, ROUND_TIMEOUT)": "EstimateRound",
		},
	}, d)

	d = load(t, service().YAML())
	require.Equal(t, "ResetAndPauseRound", d.Transitions["(EstimateRound, DONE)"])
	require.Equal(t, "RegistrationRound", d.Transitions["(ResetAndPauseRound, RESET_AND_PAUSE_TIMEOUT)"])
	require.Empty(t, d.Finals)
	load(t, rounds.RegistrationApp[oracle]().YAML())
	load(t, rounds.ResetApp[oracle]().YAML())
}

func TestMermaid(t *testing.T) {
	require.Equal(t, `stateDiagram-v2
    [*] --> ObserveRound
    EstimateRound --> EstimateRound: ROUND_TIMEOUT
    EstimateRound --> FinishedRound: DONE
    EstimateRound --> ObserveRound: NONE, NO_MAJORITY
    ObserveRound --> EstimateRound: DONE
    ObserveRound --> ObserveRound: ROUND_TIMEOUT
    FinishedRound --> [*]
`, oracleApp().Mermaid())

	require.Equal(t, `stateDiagram-v2
    [*] --> AgentRegistrationAbciApp
    OracleAbciApp --> ResetPauseAbciApp: FinishedRound
    AgentRegistrationAbciApp --> OracleAbciApp: FinishedRegistrationRound
    ResetPauseAbciApp --> OracleAbciApp: FinishedResetAndPauseRound
    ResetPauseAbciApp --> AgentRegistrationAbciApp: FinishedResetAndPauseErrorRound
`, service().Mermaid())
}

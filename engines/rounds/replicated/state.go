package replicated

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
)

// The keys of the state's parts, after chain.RoundsPrefix. Votes have their ballot and their place
// in it after votesPart.
const (
	roundPart    = "round"    // the state without the other parts
	appPart      = "app"      // the state of the apps
	offencesPart = "offences" // unless there are none
	votesPart    = "votes/"

	roundBallot       = "round"
	interruptedBallot = "interrupted"
)

// parts are the parts of a state, by key.
type parts map[string][]byte

func partKey(part string) string { return chain.RoundsPrefix + part }

func voteKey(ballot string, i int) string {
	return partKey(fmt.Sprintf("%s%s/%06d", votesPart, ballot, i))
}

func sideBallot(i int) string { return fmt.Sprintf("side%d", i) }

// frame is a state without its apps, its votes and its offences.
type frame = rounds.State[struct{}]

// ballots returns the ballots of a state, by name, in a fixed order.
func ballots[S any](st *rounds.State[S]) (names []string, of []*rounds.Ballots) {
	names, of = append(names, roundBallot), append(of, &st.Ballot)
	for i := range st.Sides {
		names, of = append(names, sideBallot(i)), append(of, &st.Sides[i].Ballot)
	}
	if st.Interrupted != nil {
		names, of = append(names, interruptedBallot), append(of, &st.Interrupted.Ballot)
	}
	return names, of
}

// encode returns the parts of a state.
func encode[S any](st rounds.State[S]) (parts, error) {
	out := parts{}
	put := func(key string, value any) error {
		b, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("the state of the rounds does not encode: %w", err)
		}
		out[key] = b
		return nil
	}

	if err := put(partKey(appPart), st.App); err != nil {
		return nil, err
	}
	if len(st.Offences) > 0 {
		if err := put(partKey(offencesPart), st.Offences); err != nil {
			return nil, err
		}
	}

	st.Sides = slices.Clone(st.Sides)
	if st.Interrupted != nil {
		interrupted := *st.Interrupted
		st.Interrupted = &interrupted
	}

	names, of := ballots(&st)
	for i, b := range of {
		for place, vote := range b.Votes {
			if err := put(voteKey(names[i], place), vote); err != nil {
				return nil, err
			}
		}
		b.Votes = nil
	}

	return out, put(partKey(roundPart), frameOf(st))
}

// frameOf returns the frame of a state whose votes were taken out.
func frameOf[S any](st rounds.State[S]) frame {
	return frame{
		Round: st.Round, Count: st.Count, Entries: st.Entries, Period: st.Period, Ballot: st.Ballot,
		Participants: st.Participants, Deadlines: st.Deadlines, Armed: st.Armed, Fired: st.Fired, Last: st.Last,
		Sides: st.Sides, Inside: st.Inside, Interrupted: st.Interrupted,
	}
}

// Read returns the state of a service's FSM, and its parts. get reads a key of the replicated
// state. If the service has not written anything yet, Read returns a zero state and no parts.
func Read[S any](get func(key []byte) (value []byte, found bool, err error)) (st rounds.State[S], was parts,
	err error,
) {
	was = parts{}
	take := func(key string, into any) (found bool, err error) {
		value, found, err := get([]byte(key))
		if err != nil || !found {
			return false, err
		}
		was[key] = value
		if err := json.Unmarshal(value, into); err != nil {
			return false, fmt.Errorf("the state of the rounds, key %q: %w", key, err)
		}
		return true, nil
	}

	var f frame
	if found, err := take(partKey(roundPart), &f); err != nil || !found {
		return st, was, err
	}
	st = withFrame[S](f)
	if _, err := take(partKey(appPart), &st.App); err != nil {
		return st, was, err
	}
	if _, err := take(partKey(offencesPart), &st.Offences); err != nil {
		return st, was, err
	}

	names, of := ballots(&st)
	for i, b := range of {
		for {
			var vote rounds.Vote
			found, err := take(voteKey(names[i], len(b.Votes)), &vote)
			if err != nil {
				return st, was, err
			}
			if !found {
				break
			}
			b.Votes = append(b.Votes, vote)
		}
	}

	return st, was, nil
}

// Written returns everything that a service has written, by key, whatever the type of its state.
// get reads a key of the replicated state.
func Written(get func(key []byte) (value []byte, found bool, err error)) (map[string][]byte, error) {
	_, was, err := Read[json.RawMessage](get)
	if err != nil {
		return nil, err
	}

	key := partKey(epochPart)
	value, found, err := get([]byte(key))
	if found {
		was[key] = value
	}
	return was, err
}

// ReadRound returns the part of a state that a change of the replicated state has written under
// key: all but its apps, votes and offences. ok is false if the key is that of another part.
func ReadRound(key, value []byte) (st rounds.State[struct{}], ok bool, err error) {
	if string(key) != partKey(roundPart) {
		return st, false, nil
	}
	if err := json.Unmarshal(value, &st); err != nil {
		return st, false, fmt.Errorf("the state of the rounds, key %q: %w", key, err)
	}
	return st, true, nil
}

// withFrame returns a state that has the frame f, and nothing else.
func withFrame[S any](f frame) rounds.State[S] {
	return rounds.State[S]{
		Round: f.Round, Count: f.Count, Entries: f.Entries, Period: f.Period, Ballot: f.Ballot,
		Participants: f.Participants, Deadlines: f.Deadlines, Armed: f.Armed, Fired: f.Fired, Last: f.Last,
		Sides: f.Sides, Inside: f.Inside, Interrupted: f.Interrupted,
	}
}

func (p parts) equal(other parts) bool { return maps.EqualFunc(p, other, bytes.Equal) }

// write turns the written parts p into next, in the order of the keys.
func (p parts) write(v chain.View, next parts) error {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if _, stays := next[key]; !stays {
			if err := v.Delete([]byte(key)); err != nil {
				return err
			}
		}
	}

	for _, key := range slices.Sorted(maps.Keys(next)) {
		if value, same := p[key]; same && bytes.Equal(value, next[key]) {
			continue
		}
		if err := v.Put([]byte(key), next[key]); err != nil {
			return err
		}
	}

	return nil
}

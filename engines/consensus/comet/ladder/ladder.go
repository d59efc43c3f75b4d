package ladder

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coppice-go/coppice/engines/consensus"
)

// Rung is what is done next.
type Rung string

// The rungs.
const (
	Gentle  Rung = "gentle"  // restart CometBFT
	Rebuild Rung = "rebuild" // rebuild its data for the same epoch
	Wait    Rung = "wait"    // nothing: no restart would help
)

// Most is the number of attempts at one height after which the ladder gives up: it says so, and
// goes on with restarts at the longest pause only.
const Most = 5

// Stall is a height that stands still.
type Stall struct {
	Epoch, Height uint64
	Attempts      int    // that were made at this height
	Why           string // it stands, as far as CometBFT itself shows

	// Fit reports whether a restart may help, as far as CometBFT itself shows.
	Fit bool

	// Alone reports whether CometBFT does not answer, or is the only validator: what peers say
	// about the height then makes no difference.
	Alone bool
}

// Answers are what the peers say about where they stand.
type Answers struct {
	Agents int // that genesis.json registers; 0: answers are not signed, and only hints
	Asked  int // peers
	Stands []consensus.PeerStanding
}

// Needed returns how many answers are enough: f+1, so that one of them is honest. f is how many of
// n agents may be faulty, n - ⌈(2n+1)/3⌉.
func (a Answers) Needed() int {
	if a.Agents == 0 {
		return 1
	}
	return a.Agents - (2*a.Agents+1+2)/3 + 1
}

// Vouched returns the highest standing that f+1 peers have reached or passed. ok is false if fewer
// have answered. A peer that is dead, or lies, changes nothing as long as f+1 others answer.
func (a Answers) Vouched() (s consensus.PeerStanding, answers int, ok bool) {
	byAgent := make(map[string]consensus.PeerStanding)
	var all []consensus.PeerStanding
	for _, s := range a.Stands {
		if a.Agents == 0 {
			all = append(all, s)
			continue
		}
		if old, twice := byAgent[s.Agent]; s.Agent != "" && (!twice || s.Ahead(old.Epoch, old.Height)) {
			byAgent[s.Agent] = s
		}
	}
	for _, s := range byAgent {
		all = append(all, s)
	}

	slices.SortFunc(all, func(x, y consensus.PeerStanding) int {
		return cmp.Or(cmp.Compare(y.Epoch, x.Epoch), cmp.Compare(y.Height, x.Height))
	})
	if n := a.Needed(); len(all) >= n {
		return all[n-1], len(all), true
	}

	return s, len(all), false
}

// Step is a rung, with what is said about it.
type Step struct {
	Rung   Rung
	Text   string
	GaveUp bool // the attempts have not helped
}

// Asks reports whether the next step depends on where the peers stand.
func (s Stall) Asks() bool { return !s.Alone && (s.Attempts > 0 || !s.Fit) }

// Next returns the next step. answers is nil if no peer is known that could be asked.
func (s Stall) Next(answers *Answers) Step {
	why := fmt.Sprintf("no block after %d: %s", s.Height, s.Why)
	if s.Attempts >= Most {
		return Step{Gentle, fmt.Sprintf("%s; %d attempts have not helped, and somebody has to look: see "+
			"docs/cometbft.md", why, s.Attempts), true}
	}

	gentle := Step{Gentle, fmt.Sprintf("%s; restarting CometBFT, attempt %d of %d", why, s.Attempts+1, Most), false}
	wait := Step{Rung: Wait, Text: why}
	if !s.Asks() {
		return gentle
	}
	if answers == nil {
		return s.unknown(gentle, wait)
	}

	at, n, ok := answers.Vouched()
	switch {
	case !ok:
		wait.Text = fmt.Sprintf("%s; %d of %d peers have answered, %d are needed", why, n, answers.Asked,
			answers.Needed())
		return s.unknown(gentle, wait)

	case at.Epoch > s.Epoch:
		wait.Text = fmt.Sprintf("%s; %d peers or more are in epoch %d, and this node is in %d", why, answers.Needed(),
			at.Epoch, s.Epoch)
		return wait

	case at.Ahead(s.Epoch, s.Height) && s.Attempts == 0:
		gentle.Text += fmt.Sprintf(", because %d peers or more are at height %d", answers.Needed(), at.Height)
		return gentle

	case at.Ahead(s.Epoch, s.Height):
		return Step{Rebuild, fmt.Sprintf("%s; %d peers or more are at height %d: rebuilding CometBFT's data, "+
			"attempt %d of %d", why, answers.Needed(), at.Height, s.Attempts+1, Most), false}
	}

	wait.Text = fmt.Sprintf("%s; no quorum: nobody is ahead, of %d peers that have answered", why, n)
	return wait
}

// unknown returns the step if the peers say nothing.
func (s Stall) unknown(gentle, wait Step) Step {
	if s.Fit {
		return gentle
	}
	return wait
}

package chaos

import (
	"math/rand/v2"
	"time"
)

// Trouble is something bad that happens to the network as a whole for a while.
type Trouble uint8

// The troubles. Of four nodes, three are a quorum.
const (
	Calm        Trouble = iota // none: there are only strikes
	CutOff                     // cuts off as many nodes as the others can do without
	CutInTwo                   // cuts off one node more, so that neither side is a quorum
	CutApart                   // cuts every node off
	PauseNode                  // pauses nodes that the others can do without (SIGSTOP), but not their CometBFT
	PauseNodes                 // pauses one node more: no quorum
	PauseComet                 // pauses CometBFT of nodes that the others can do without
	PauseComets                // pauses one CometBFT more: no quorum until the watchdogs act
	KillAll                    // kills all nodes (SIGKILL) at once
	troubles
)

var troubleNames = [troubles]string{
	"calm", "cut off", "cut in two", "cut apart", "node paused", "nodes paused", "CometBFT paused", "CometBFTs paused",
	"all killed",
}

func (t Trouble) String() string { return troubleNames[t] }

// stands reports whether there is no quorum while the trouble lasts, whatever the nodes do.
func (t Trouble) stands() bool { return t == CutInTwo || t == CutApart || t == PauseNodes }

// pauses reports whether the trouble pauses nodes, so that they do not answer.
func (t Trouble) pauses() bool { return t == PauseNode || t == PauseNodes }

// Blow says what a strike kills.
type Blow uint8

// The blows.
const (
	KillEngine Blow = iota // a child of a node's tree, by its path, in one of the ways that apply
	KillComet              // a node's CometBFT, by SIGKILL
	KillNode               // a node's process, by SIGKILL
)

// strike is a blow at a node, at a given time.
type strike struct {
	blow Blow
	node int
	at   time.Duration // since the trouble began
	pick uint64        // chooses the path and the way
}

// episode is a trouble, the strikes while it lasts, and the rest after it.
type episode struct {
	trouble Trouble
	nodes   []int // cut off, paused or killed
	hold    time.Duration
	strikes []strike
	rest    time.Duration
}

// How long things last. A trouble without a quorum lasts longer than a watchdog's patience, so that
// the silence of the watchdog means something.
const (
	shortest    = 3 * time.Second
	patience    = 6 * time.Second
	spread      = 6 * time.Second // how much longer a trouble may last
	betweenBlow = 1500 * time.Millisecond
	longestRest = 1500 * time.Millisecond
)

// quorum returns how many of n validators of equal power have more than two thirds of the power.
func quorum(n int) int { return 2*n/3 + 1 }

// planner chooses the episodes at random. A trouble comes again only when all others have had their
// turn.
type planner struct {
	n    int
	rand *rand.Rand
	deck []Trouble
}

func newPlanner(n int, seed uint64) *planner {
	return &planner{n: n, rand: rand.New(rand.NewPCG(seed, 1))}
}

// next returns the next episode.
func (p *planner) next() episode {
	if len(p.deck) == 0 {
		for t := range troubles {
			p.deck = append(p.deck, t)
		}
		p.rand.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}

	e := episode{trouble: p.deck[0], hold: shortest, rest: p.upTo(longestRest)}
	p.deck = p.deck[1:]
	spare := p.n - quorum(p.n)
	var stopped []int
	order := p.rand.Perm(p.n)

	switch e.trouble {
	case Calm:
	case CutOff, PauseNode, PauseComet:
		e.nodes = order[:spare]
	case CutInTwo, PauseNodes, PauseComets:
		e.nodes = order[:spare+1]
	case CutApart, KillAll:
		e.nodes = order
	}

	if e.trouble.stands() {
		e.hold = patience
	}
	if e.hold += p.upTo(spread); e.trouble == KillAll {
		e.hold = 0 // the nodes come back at once
	}
	if e.trouble.pauses() {
		stopped = e.nodes
	}

	for at := p.upTo(betweenBlow); at < e.hold; at += betweenBlow/2 + p.upTo(betweenBlow) {
		e.strikes = append(e.strikes, p.strike(at, order[len(stopped):]))
	}

	return e
}

// strike chooses a blow, and one of the nodes for it. The caller leaves out paused nodes, because a
// paused node would not react to the blow, or the blow would wake it.
func (p *planner) strike(at time.Duration, nodes []int) strike {
	s := strike{at: at, node: nodes[p.rand.IntN(len(nodes))], pick: p.rand.Uint64()}
	switch n := p.rand.IntN(10); {
	case n < 2:
		s.blow = KillNode
	case n < 4:
		s.blow = KillComet
	}
	return s
}

// upTo returns a random duration below d.
func (p *planner) upTo(d time.Duration) time.Duration { return time.Duration(p.rand.Int64N(int64(d))) }

package comet

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// health is what the driver knows about its consensus: from the process (its start, its end, what
// it logs and reports), from the application, and from polls of CometBFT's RPC. It outlives the
// incarnations of the driver's children. Its methods are safe for concurrent use and never wait.
type health struct {
	now func() time.Time

	mu sync.Mutex

	// of the home
	genesis   time.Time // 0: not known yet
	initial   int64     // height of the first block
	first     []validator
	stateSync bool
	bound     time.Duration // how long a height may take

	// of the process
	up, wasUp   bool
	failed      int    // starts in a row that ended before CometBFT was up
	why         string // the reason of the last end
	report      child.Report
	lightClient string // why the light client of the state sync cannot begin
	foreign     string // the notice that a peer's genesis differs from this home's

	process *consensus.Process // the newest change of it

	// of its log
	failure  fault // consensus failure
	invalid  fault // a block of the peers that does not fit
	refused  fault // the key has refused to sign
	refusals int

	// of the application
	height    int64
	moved     time.Time // when height changed
	decided   time.Time // when the block at decidedAt came, in a process that takes part in its votes
	decidedAt int64
	follows   bool
	synced    time.Time
	evidence  map[string]uint64   // by address
	hold      consensus.ResetHold // of the reset that was decided; Height is 0 if there is none
	pause     time.Duration       // between two periods of the chain's rounds; 0: it has none
	held      time.Time           // when the chain entered the hold that it is in; zero: it is in none
	epoch     uint64              // of the chain
	left      string              // how the chain has gone on without this node; empty if it has not
	unmade    string              // why the reset that is due cannot be made yet; empty if nothing hinders it
	unbuilt   string              // why the data of CometBFT cannot be rebuilt yet; empty if nothing hinders it

	// of the polls
	seen    *observed // nil: none since the process began
	silent  error     // why the last poll failed; nil if it did not
	silence time.Time // when polls began to fail
	votesAt place     // where votes began to come at voting
	voting  time.Time
	apart   time.Duration    // see offset
	heard   map[string]int64 // the height at which a validator voted last, by address
}

// place is a round of the height after a block.
type place struct {
	height int64 // of the block
	round  int
}

// fault is something that went wrong at a height.
type fault struct {
	height int64
	text   string
}

func newHealth(now func() time.Time) *health {
	if now == nil {
		now = time.Now
	}
	return &health{now: now, evidence: make(map[string]uint64), heard: make(map[string]int64), initial: 1,
		bound: watchAtLeast}
}

// of notes what the files of the home say.
func (h *health) of(g comethome.Genesis, stateSync bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.genesis, h.initial, h.stateSync, h.bound = g.Time, max(1, int64(g.InitialHeight)), stateSync, watchAtLeast
	h.moved = h.now()
	h.first = nil
	for _, v := range g.Validators {
		h.first = append(h.first, validator{v.Address, v.Power})
	}
}

// genesisValidators returns the validators with which the chain begins.
func (h *health) genesisValidators() []validator {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.first)
}

// began notes that a process starts.
func (h *health) began() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.seen, h.silent = false, nil, nil
	h.report, h.lightClient, h.foreign = child.Report{}, "", ""
}

// came notes that CometBFT is up.
func (h *health) came() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.wasUp, h.lightClient, h.moved = true, true, "", h.now()
}

// ended notes that the process has ended, after so many failed starts in a row.
func (h *health) ended(failed int, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.failed, h.why, h.seen = false, failed, why, nil
}

func (h *health) reported(r child.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report = r
}

// committed notes a committed height.
func (h *health) committed(height uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if int64(height) != h.height {
		h.height, h.moved, h.left = int64(height), h.now(), ""
	}
}

// holds notes whether the chain is in hold, until its reset.
func (h *health) holds(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	switch {
	case !held:
		h.held = time.Time{}
	case h.held.IsZero():
		h.held = h.now()
	}
}

// isHeld reports whether the chain is in hold.
func (h *health) isHeld() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.held.IsZero()
}

// enters notes the epoch that the chain is in.
func (h *health) enters(epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch {
		h.epoch, h.left = epoch, ""
	}
}

// leftBehind notes that the chain has gone on without this node, and how.
func (h *health) leftBehind(how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = how
}

// renews notes that the home is made that of the next epoch, or why it cannot be yet.
func (h *health) renews(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unmade = ""; err != nil {
		h.unmade = err.Error()
	}
}

// rebuilds notes why the data of CometBFT cannot be rebuilt yet, or nil.
func (h *health) rebuilds(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unbuilt = ""; err != nil {
		h.unbuilt = err.Error()
	}
}

// processed notes a change of the process.
func (h *health) processed(p consensus.Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process == nil || !p.At.Before(h.process.At) {
		h.process = &p
	}
}

// inEpoch returns the epoch that the chain is in.
func (h *health) inEpoch() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch
}

// finalizes notes the arrival of a decided block. live says that the process has taken part in the
// votes for it, so that the clock at this moment can be compared with theirs.
func (h *health) finalizes(height int64, live bool, accused []string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.follows = true
	if live && height != h.decidedAt {
		h.decided, h.decidedAt = h.now(), height
	}
	for _, address := range accused {
		h.evidence[address]++
	}
}

// chunk notes that a part of a snapshot has arrived.
func (h *health) chunk() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced = h.now()
}

// polled notes the outcome of a poll.
func (h *health) polled(o *observed, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if err != nil {
		if h.silent == nil {
			h.silence = h.now()
		}
		h.silent = err
		return
	}

	if h.seen == nil || h.seen.catchingUp && !o.catchingUp {
		h.moved = h.now() // from here on a quorum would make a block
	}
	if at := (place{o.height, o.round}); len(o.voted) > 0 && h.votesAt != at {
		h.votesAt, h.voting = at, h.now()
	}

	for address := range o.clocks {
		h.heard[address] = max(h.heard[address], o.height)
	}
	for _, address := range o.voted {
		h.heard[address] = max(h.heard[address], o.height+1)
	}

	h.seen, h.silent = o, nil
	if o.signed() {
		h.refusals = 0
	}
}

// differs notes that a peer's chain began with another genesis than this home's.
func (h *health) differs(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.foreign = text
}

// logged reads a line of CometBFT's log for what only the log says.
func (h *health) logged(line string) {
	fits := func(text string) bool { return strings.Contains(line, text) }
	h.mu.Lock()
	defer h.mu.Unlock()

	f := fault{h.next(), field(line, "err")}

	switch {
	case fits("CONSENSUS FAILURE!!!"):
		h.failure = f
	case fits("Error in validation"), fits("consensus deems this block invalid"),
		fits("failed to process message") && fits("invalid proposal signature"):
		h.invalid = f
	case fits("failed signing vote"), fits("failed signing proposal"):
		h.refused = f
		h.refusals++
	case fits("light client of the state sync cannot begin"):
		h.lightClient = f.text
	}
}

// field returns the value of a field of a log line of CometBFT, in one line.
func field(line, name string) string {
	_, rest, ok := strings.Cut(line, " "+name+"=")
	if !ok {
		return "see the log"
	}

	if strings.HasPrefix(rest, `"`) {
		if end := strings.Index(rest[1:], `"`); end >= 0 {
			rest = rest[1 : end+1]
		}
	} else if value, _, more := strings.Cut(rest, " "); more {
		rest = value
	}

	return fmt.Sprintf("%.300s", strings.Join(strings.Fields(rest), " "))
}

// pruned reports whether peers are ahead, and none of them has kept the block after ours.
func (h *health) pruned() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, pruned := h.peersAhead()
	return pruned
}

// waitsForGenesis reports whether CometBFT waits for the genesis time.
func (h *health) waitsForGenesis() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.height == 0 && h.genesis.After(h.now())
}

// next returns the height of the next block. An epoch begins at its initial height.
func (h *health) next() int64 { return max(h.height+1, h.initial) }

// peersAhead returns the highest height of a peer. pruned is true if peers are ahead, and each of
// these says that it has no block as old as the one after ours.
func (h *health) peersAhead() (height int64, pruned bool) {
	ahead := 0

	for _, p := range h.report.Peers {
		height = max(height, p.Height)
		if p.Height <= h.height {
			continue
		}
		if ahead++; p.Base <= h.next() {
			ahead = -len(h.report.Peers) - 1 // this one has it, or does not say
		}
	}

	return height, ahead > 0
}

// observed is what a poll of the RPC has shown.
type observed struct {
	height     int64
	catchingUp bool
	address    string // of this node's key
	validators []validator
	step       int
	voted      []string // addresses of those that have voted in round
	last       []string // addresses of those that have voted in the last step of round
	round      int      // the newest round with votes, of the height under way

	commitAt   int64                // the height of the last commit
	clocks     map[string]time.Time // when its votes were made, by the validators' addresses
	signHeight int64                // of the signing state in the file; 0 if there is none
}

// signed reports whether this node's vote is in the last commit.
func (o *observed) signed() bool {
	_, ok := o.clocks[o.address]
	return ok
}

type validator struct {
	address string
	power   int64
}

func (o *observed) power(of []string) (present, total int64, missing []string) {
	for _, v := range o.validators {
		total += v.power
		if slices.Contains(of, v.address) {
			present += v.power
		} else {
			missing = append(missing, short(v.address))
		}
	}
	return present, total, missing
}

// own returns the power of this node's key, 0 if it is no validator.
func (o *observed) own() int64 {
	for _, v := range o.validators {
		if v.address == o.address {
			return v.power
		}
	}
	return 0
}

// short returns the beginning of an address or an id, as CometBFT's own log has it.
func short(id string) string { return id[:min(12, len(id))] }

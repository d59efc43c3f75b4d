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

// health is what the driver knows about its consensus: from the process (its start, its end, what it
// logs and reports), from the application, and from polls of CometBFT's RPC. It outlives the
// incarnations of the driver's children. Its methods are safe for concurrent use and never wait.
type health struct {
	now func() time.Time

	mu sync.Mutex

	// of the home
	genesis   time.Time // 0: not known yet
	initial   int64     // height of the first block
	stateSync bool
	bound     time.Duration // how long a height may take

	// of the process
	up, wasUp   bool
	failed      int    // starts in a row that ended before CometBFT was up
	why         string // the reason of the last end
	report      child.Report
	lightClient string // why the light client of the state sync cannot begin

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
	evidence  map[string]uint64 // by address

	// of the polls
	seen    *observed // nil: none since the process began
	silent  error     // why the last poll failed; nil if it did not
	silence time.Time // when polls began to fail
	votesAt int64     // the height on which votes came at voting
	voting  time.Time
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
	return &health{now: now, evidence: make(map[string]uint64), initial: 1, bound: watchAtLeast}
}

// of notes what the files of the home say.
func (h *health) of(g comethome.Genesis, t timing, stateSync bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.genesis, h.initial, h.stateSync, h.bound = g.Time, max(1, int64(g.InitialHeight)), stateSync, watchAtLeast
	h.moved = h.now()
}

// began notes that a process starts.
func (h *health) began() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.seen, h.silent, h.report, h.lightClient = false, nil, nil, child.Report{}, ""
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
		h.height, h.moved = int64(height), h.now()
	}
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
	if len(o.voted) > 0 && h.votesAt != o.height {
		h.votesAt, h.voting = o.height, h.now()
	}

	h.seen, h.silent = o, nil
	if o.signed {
		h.refusals = 0
	}
}

// logged reads a line of CometBFT's log for what only the log says.
func (h *health) logged(line string) {
	fits := func(text string) bool { return strings.Contains(line, text) }
	h.mu.Lock()
	defer h.mu.Unlock()

	f := fault{h.height + 1, field(line, "err")}

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

// peersAhead returns the highest height of a peer. pruned is true if peers are ahead, and each of
// these says that it has no block as old as the one after ours.
func (h *health) peersAhead() (height int64, pruned bool) {
	ahead := 0

	for _, p := range h.report.Peers {
		height = max(height, p.Height)
		if p.Height <= h.height {
			continue
		}
		if ahead++; p.Base <= h.height+1 {
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
	voted      []string // addresses of those that have voted at the height under way, in any round
	signed     bool     // this node's vote is in the last commit
	signers    []string // of the last commit

	commitAt   int64                // the height of that commit
	clocks     map[string]time.Time // of its votes
	signHeight int64                // of the signing state in the file; 0 if there is none
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

// Condition returns the present condition of the consensus.
func (h *health) Condition() consensus.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()

	c := consensus.Condition{State: consensus.Ready}
	h.figures(&c)

	switch {
	case !h.up:
		h.judgeDown(&c)
	case h.silent != nil && h.now().Sub(h.silence) >= patienceRPC:
		c.Is(consensus.ConsensusDown, "CometBFT runs, and does not answer: %v", h.silent)
	case h.seen == nil:
		c.Is(consensus.Starting, "CometBFT is up, and has not answered yet")
	default:
		h.judge(&c, h.seen)
	}

	h.warn(&c)

	return c
}

// patienceRPC is how long CometBFT may not answer before it counts as down.
const patienceRPC = 1500 * time.Millisecond

func (h *health) figures(c *consensus.Condition) {
	peers, _ := h.peersAhead()
	c.Height, c.PeersHeight = uint64(max(0, h.height)), uint64(max(0, peers))
	c.PeersConnected, c.PeersConfigured = len(h.report.Peers), len(h.report.Configured)

	o := h.seen
	if o == nil {
		return
	}

	c.CatchingUp = o.catchingUp
	c.PowerPresent, c.PowerTotal, c.Missing = o.power(h.present(o))
	c.Evidence = h.evidence[o.address]
	c.ClockOffset = h.offset(o)

	switch {
	case o.own() == 0:
	case o.signed, h.alone(o) && h.height == 0:
		c.Signing = consensus.Signs
	default:
		c.Signing = consensus.MissesSome
	}
}

func (h *health) alone(o *observed) bool {
	return len(o.validators) == 1 && o.validators[0].address == o.address
}

// stands reports whether the height has not changed for so long that a quorum would have changed it,
// if there was something to decide.
func (h *health) stands() bool { return h.now().Sub(h.moved) >= h.bound }

// stuck reports whether validators have voted for the next block for so long that a quorum would have
// made it.
func (h *health) stuck(o *observed) bool {
	return len(o.voted) > 0 && h.votesAt == o.height && h.now().Sub(h.voting) >= h.bound && h.stands()
}

// present returns the addresses of the validators that were heard from. While the votes for a block
// come to nothing, these are the ones that have voted. Otherwise they are the signers of the last
// commit: while a chain is idle, nobody votes. If no peer can be heard, only this node is present.
func (h *health) present(o *observed) []string {
	if h.deaf() && !h.alone(o) {
		return []string{o.address}
	}
	if h.stuck(o) || h.height < h.initial {
		return o.voted
	}
	return o.signers
}

// deaf reports whether no peer is connected that was heard from lately.
func (h *health) deaf() bool {
	for _, p := range h.report.Peers {
		if p.Silent < patiencePeer {
			return false
		}
	}
	return true
}

// patiencePeer is how long a connected peer may be silent: CometBFT's peers send a ping every minute,
// and while there are votes, all the time.
const patiencePeer = 70 * time.Second

// judgeDown says why CometBFT is not up.
func (h *health) judgeDown(c *consensus.Condition) {
	switch {
	case h.height == 0 && h.genesis.After(h.now()):
		c.Is(consensus.WaitingForGenesis, "the chain begins at its genesis time, %s: CometBFT waits for it; if that time "+
			"should be past, this machine's clock is behind", h.genesis.UTC().Format(time.RFC3339))
	case h.failed > 0 && strings.Contains(h.why, "no space left on device"):
		c.Is(consensus.DiskFull, "CometBFT does not start: %s", h.why)
	case h.failed > 0:
		c.Is(consensus.ConsensusDown, "CometBFT does not start (%d of %d attempts failed): %s", h.failed, mostFailed, h.why)
	case h.lightClient != "":
		c.Is(consensus.WaitingForSnapshot, "the light client of the state sync cannot begin: %s", h.lightClient)
	case h.wasUp && h.why != "":
		c.Is(consensus.ConsensusDown, "CometBFT has ended, and is started again: %s", h.why)
	case h.wasUp:
		c.Is(consensus.ConsensusDown, "CometBFT is started again")
	default:
		c.Is(consensus.Starting, "CometBFT starts")
	}
}

// judge says what a CometBFT that answers is able to do.
func (h *health) judge(c *consensus.Condition, o *observed) {
	peers, pruned := h.peersAhead()
	next := h.height + 1

	switch {
	case h.failure.height == next:
		c.Is(consensus.Halted, "CometBFT's consensus has failed at height %d: %s", next, h.failure.text)

	case h.stateSync && !h.follows && h.height == 0:
		h.judgeSnapshot(c)

	case len(h.report.Peers) == 0 && h.otherChain() != "":
		c.Is(consensus.WrongGenesis, "%d of %d configured peers are of another chain, and none is connected: %s",
			len(h.report.Refused), len(h.report.Configured), h.otherChain())

	case h.invalid.height == next && next == h.initial && h.stands():
		c.Is(consensus.WrongGenesis, "the peers' first block does not fit the genesis of this home "+
			"(comet/config/genesis.json): %s", h.invalid.text)

	case h.invalid.height == next && peers > h.height && h.stands():
		c.Is(consensus.Halted, "the peers' block %d does not fit this node's state: %s", next, h.invalid.text)

	case o.own() > 0 && o.signHeight > next:
		c.Signing = consensus.SignRefuse
		c.Is(consensus.SigningRefused, "this validator's key signs from height %d on, and the next block is %d: "+
			"comet/data/priv_validator_state.json is of another time or chain; the chain goes on without it, or waits "+
			"for it", o.signHeight, next)

	case o.own() > 0 && h.refusals >= 3:
		c.Signing = consensus.SignRefuse
		c.Is(consensus.SigningRefused, "this validator's key refuses to sign: %s", h.refused.text)

	case pruned:
		c.Is(consensus.PrunedPeers, "the peers have kept no block as old as %d, which this node needs next (the oldest is "+
			"%d): begin with a snapshot (state sync), or add a peer that keeps all blocks", next, h.oldest())

	case (o.catchingUp || !h.alone(o)) && peers > h.height+behindMost || o.catchingUp && peers > h.height:
		c.Is(consensus.CatchingUp, "%d blocks behind the peers", peers-h.height)

	case h.alone(o):
		if h.height < h.initial {
			c.Is(consensus.Starting, "the first block is on its way")
		}

	default:
		h.judgeQuorum(c, o)
	}
}

// behindMost is how many blocks a node may be behind its peers for a moment.
const behindMost = 3

func (h *health) judgeSnapshot(c *consensus.Condition) {
	switch {
	case !h.synced.IsZero() && h.now().Sub(h.synced) < syncPatience:
		c.Is(consensus.CatchingUp, "a snapshot is taken from the peers")
	case len(h.report.Peers) == 0:
		c.Is(consensus.WaitingForSnapshot, "no peer is connected (%d are configured)%s", len(h.report.Configured),
			h.refusedText())
	case h.report.Snapshots > 0:
		c.Is(consensus.WaitingForSnapshot, "%d peers offer snapshots, and none could be taken yet", len(h.report.Peers))
	default:
		c.Is(consensus.WaitingForSnapshot, "none of the %d connected peers offers a snapshot: %s", len(h.report.Peers),
			strings.Join(h.peerIDs(), ", "))
	}
}

func (h *health) judgeQuorum(c *consensus.Condition, o *observed) {
	present, total, missing := o.power(h.present(o))
	peers := fmt.Sprintf("%d of %d configured peers connected%s", h.connected(), len(h.report.Configured), h.absentText())

	switch {
	case (h.stuck(o) || h.height < h.initial && h.stands()) && 3*present <= 2*total, h.deaf(), h.idleWithout(o):
		c.Is(consensus.NoQuorum, "voting power %d of %d is present, more than two thirds are needed; missing: %s; %s",
			present, total, orNobody(missing), peers)
	case o.catchingUp:
		c.Is(consensus.Starting, "CometBFT asks its peers for blocks; %s", peers)
	case h.height < h.initial:
		c.Is(consensus.Starting, "the first block is on its way; %s", peers)
	}
}

// idleWithout reports whether an idle chain has probably lost its quorum. Nobody votes while there
// is nothing to decide. But if configured peers are not connected, and no block came since they
// left, and the connected ones and this node cannot be a quorum even if they were the strongest
// validators, then the next block would not come.
func (h *health) idleWithout(o *observed) bool {
	if !h.stands() || len(o.voted) > 0 || h.connected() == len(h.report.Configured) {
		return false
	}

	var powers []int64
	total := int64(0)
	for _, v := range o.validators {
		total += v.power
		if v.address != o.address {
			powers = append(powers, v.power)
		}
	}

	slices.Sort(powers)
	slices.Reverse(powers)
	most := o.own()
	for _, p := range powers[:min(len(powers), len(h.report.Peers))] {
		most += p
	}

	return 3*most <= 2*total
}

// connected returns how many of the configured peers are connected.
func (h *health) connected() (n int) {
	for _, p := range h.report.Peers {
		if slices.Contains(h.report.Configured, p.ID) {
			n++
		}
	}
	return n
}

func (h *health) peerIDs() (ids []string) {
	for _, p := range h.report.Peers {
		ids = append(ids, short(p.ID))
	}
	return ids
}

func (h *health) oldest() (base int64) {
	for _, p := range h.report.Peers {
		if base == 0 || p.Base < base {
			base = p.Base
		}
	}
	return base
}

// otherChain returns why a peer of another chain was refused, or "".
func (h *health) otherChain() string {
	for _, why := range h.report.Refused {
		if strings.Contains(why, "different network") {
			return why
		}
	}
	return ""
}

func (h *health) refusedText() string {
	for id, why := range h.report.Refused {
		return fmt.Sprintf("; %d refused, such as %s: %s", len(h.report.Refused), short(id), why)
	}
	return ""
}

// absentText names the configured peers that are not connected.
func (h *health) absentText() string {
	connected := h.peerIDs()
	var absent []string
	for _, id := range h.report.Configured {
		if !slices.Contains(connected, short(id)) {
			absent = append(absent, short(id))
		}
	}
	if len(absent) == 0 {
		return ""
	}
	return fmt.Sprintf(" (without %s)%s", strings.Join(absent, ", "), h.refusedText())
}

func orNobody(list []string) string {
	if len(list) == 0 {
		return "nobody by the last block"
	}
	return strings.Join(list, ", ")
}

// offset returns this node's clock minus the middle one of the other validators' clocks: the time at
// which a block that they had just decided arrived here, minus the times in their votes for it. It
// is 0 if there is no such block.
func (h *health) offset(o *observed) time.Duration {
	if o.commitAt == 0 || o.commitAt != h.decidedAt {
		return 0
	}
	return h.decided.Sub(middle(o.clocks, o.address))
}

// middle returns the median of the clocks, without the one at except. If there is none, it returns
// that one.
func middle(clocks map[string]time.Time, except string) time.Time {
	var times []time.Time
	for address, at := range clocks {
		if address != except {
			times = append(times, at)
		}
	}
	if len(times) == 0 {
		return clocks[except]
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[len(times)/2]
}

// warn adds the warnings of the consensus.
func (h *health) warn(c *consensus.Condition) {
	o := h.seen
	if o == nil {
		return
	}

	if n := h.evidence[o.address]; n > 0 {
		c.Warn(consensus.DoubleSign, "%d blocks hold evidence that this validator (%s) has signed twice: its key is in use "+
			"elsewhere, or its signing state was put back; stop it, and find the other", n, short(o.address))
	}

	if why := h.otherChain(); why != "" && c.State != consensus.WrongGenesis {
		c.Warn(consensus.WrongGenesis, "a configured peer is of another chain: %s", why)
	}

	if median := middle(o.clocks, o.address); !median.IsZero() && len(o.clocks) > 2 {
		for address, at := range o.clocks {
			if d := at.Sub(median); address != o.address && d.Abs() >= clockApart {
				c.Warn(consensus.ClockAhead, "the clock of validator %s differs from the others' by %v", short(address),
					d.Round(10*time.Second))
			}
		}
	}
}

// clockApart is how far the clock of another validator may be from the others' without a warning.
const clockApart = time.Minute

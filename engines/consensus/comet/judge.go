package comet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// Condition returns the present condition of the consensus.
func (h *health) Condition() consensus.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()

	c := consensus.Condition{State: consensus.Ready, Process: h.process}
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

	if h.left != "" {
		c.Is(consensus.PrunedPeers, "%s", h.left)
	}
	h.holding(&c)

	h.warn(&c)

	return c
}

// holdMost is how long a hold may last at least before the node says so.
const holdMost = 3 * time.Second

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
	case o.height > 0 && h.heard[o.address] >= o.height-heardWithin && h.heard[o.address] > 0, h.height < h.initial:
		c.Signing = consensus.Signs
	default:
		c.Signing = consensus.MissesSome
	}
}

func (h *health) alone(o *observed) bool {
	return len(o.validators) == 1 && o.validators[0].address == o.address
}

// stands reports whether the height has not changed for so long that a quorum would have changed
// it, if there was something to decide.
func (h *health) stands() bool { return h.now().Sub(h.moved) >= h.bound }

// stuck reports whether the votes of one round came so long ago that a quorum would have made the
// block, or begun the next round.
func (h *health) stuck(o *observed) bool {
	return len(o.voted) > 0 && h.votesAt == place{o.height, o.round} && h.now().Sub(h.voting) >= h.bound && h.stands()
}

// present returns the addresses of the validators that were heard from. While the votes for a block
// come to nothing, these are the ones that have voted in the last step of the newest round: one
// that has voted before may have stopped since. Otherwise they are those that have signed one of
// the last blocks: a commit needs not all, and while a chain is idle, nobody votes. If no peer can
// be heard, only this node is present.
func (h *health) present(o *observed) []string {
	if h.deaf() && !h.alone(o) {
		return []string{o.address}
	}
	if h.stuck(o) || h.height < h.initial {
		return o.last
	}
	return slices.DeleteFunc(slices.Collect(maps.Keys(h.heard)), func(address string) bool {
		return h.heard[address] < o.height-heardWithin
	})
}

// heardWithin is the number of blocks of which a validator that is present signs or votes at least
// one, as the polls see it.
const heardWithin = 20

// deaf reports whether no peer is connected that was heard from lately.
func (h *health) deaf() bool {
	for _, p := range h.report.Peers {
		if p.Silent < patiencePeer {
			return false
		}
	}
	return true
}

// patiencePeer is how long a connected peer may be silent: CometBFT's peers send a ping every
// minute, and while there are votes, all the time.
const patiencePeer = 70 * time.Second

// judgeDown says why CometBFT is not up.
func (h *health) judgeDown(c *consensus.Condition) {
	switch {
	case h.unmade != "":
		c.Is(consensus.ConsensusDown, "the chain has ended, and its next epoch cannot begin yet: %s", h.unmade)
	case h.unbuilt != "":
		c.Is(consensus.ConsensusDown, "the data of CometBFT is to be rebuilt, and cannot be yet: %s", h.unbuilt)
	case h.height == 0 && h.genesis.After(h.now()):
		c.Is(consensus.WaitingForGenesis, "the chain begins at its genesis time, %s: CometBFT waits for it; if "+
			"that time should be past, this machine's clock is behind", h.genesis.UTC().Format(time.RFC3339))
	case h.failed > 0 && strings.Contains(h.why, "no space left on device"):
		c.Is(consensus.DiskFull, "CometBFT does not start: %s", h.why)
	case h.failed > 0:
		c.Is(consensus.ConsensusDown, "CometBFT does not start (%d of %d attempts failed): "+
			"%s", h.failed, mostFailed, h.why)
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
	next := h.next()

	switch {
	case h.failure.height == next && next == h.initial &&
		strings.Contains(h.failure.text, "committed an invalid block"):
		c.Is(consensus.WrongGenesis, "the peers' first block does not fit the genesis of this home "+
			"(comet/config/genesis.json): %s", h.failure.text)

	case h.failure.height == next:
		c.Is(consensus.Halted, "CometBFT's consensus has failed at height %d: %s", next, h.failure.text)

	case h.stateSync && !h.follows && h.height == 0:
		h.judgeSnapshot(c)

	case len(h.report.Peers) == 0 && h.foreign != "":
		c.Is(consensus.WrongGenesis, "the peers' genesis does not fit the genesis of this home, and none is "+
			"connected: %s", h.foreign)

	case len(h.report.Peers) == 0 && h.otherChain() != "":
		c.Is(consensus.WrongGenesis, "%d of %d configured peers are of another chain, and none is connected: %s",
			len(h.report.Refused), len(h.report.Configured), h.otherChain())

	case h.invalid.height == next && strings.Contains(h.invalid.text, "too far in the future") && h.stands(),
		h.alone(o) && middle(o.clocks, "").Sub(h.now()) > futureMost:
		c.Is(consensus.ClockBehind, "the next block's time is too far ahead of this node's clock, and validators with "+
			"such a clock refuse it: %s; set this clock, or if it is right, the validators' clocks were ahead, "+
			"and the chain goes on when time has caught up (docs/operating.md, Clocks)", h.behindText())

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
		c.Is(consensus.PrunedPeers, "the peers have kept no block as old as %d, which this node needs next (the "+
			"oldest is %d): begin with a snapshot (state sync), or add a peer that keeps all blocks", next, h.oldest())

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
	peers := fmt.Sprintf("%d of %d configured peers "+
		"connected%s", h.connected(), len(h.report.Configured), h.absentText())

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

// otherChain returns why a peer of another chain was refused, or "". A peer in another epoch of
// this chain is none: around a reset the nodes do not change their epoch at the same moment.
func (h *health) otherChain() string {
	for _, why := range h.report.Refused {
		if strings.Contains(why, "different network") && !h.isOtherEpoch(why) {
			return why
		}
	}
	return ""
}

// isOtherEpoch reports whether a refusal names two epochs of this chain.
func (h *health) isOtherEpoch(why string) bool {
	_, ids, _ := strings.Cut(why, "Got ")
	theirs, ours, ok := strings.Cut(ids, ", expected ")
	if !ok {
		return false
	}

	epochs := []uint64{h.epoch}
	if h.hold.Height > 0 {
		epochs = append(epochs, h.epoch+1)
	}
	for _, e := range epochs {
		name := chain.NameOf(ours, e)
		if _, ok := chain.EpochOf(theirs, name); ok && chain.EpochID(name, e) == ours {
			return true
		}
	}

	return false
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

// futureMost is how far the time of a block may be ahead of a validator's clock: CometBFT's own
// tolerance. The time of the next block is the middle of the times in the votes for the last one.
const futureMost = time.Minute

// behindText says how far the time of the next block is ahead of this node's clock.
func (h *health) behindText() string {
	at := middle(h.seen.clocks, "")
	if at.IsZero() {
		return h.invalid.text
	}
	return fmt.Sprintf("it is %s, in %v", at.UTC().Format(time.RFC3339), at.Sub(h.now()).Round(time.Minute))
}

// offset returns this node's clock minus the middle one of the other validators' clocks: the time
// at which a block that they had just decided arrived here, minus the times in their votes for it.
// A block counts if this validator has voted for it too, and so has not fetched it later. offset is
// that of the last such block, or 0 if there is none.
func (h *health) offset(o *observed) time.Duration {
	if o.commitAt > 0 && o.commitAt == h.decidedAt && o.signed() {
		h.apart = h.decided.Sub(middle(o.clocks, o.address))
	}
	return h.apart
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
		c.Warn(consensus.DoubleSign, "%d blocks hold evidence that this validator (%s) has signed twice: its key "+
			"is in use elsewhere, or its signing state was put back; stop it, and find the other", n, short(o.address))
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

package child

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
)

// peerLog is CometBFT's logger. It finds in what is logged, at whatever level, why peers are not
// connected, and tells each reason once (see notices). CometBFT logs each of the attempts that
// follow; these lines are left out while their reason is known, and otherwise come once a minute
// for each peer.
type peerLog struct {
	cmtlog.Logger
	*peerFacts
}

// peerFacts is what all loggers of a process share.
type peerFacts struct {
	notices *notices
	own     p2p.ID
	dupIP   bool // the setting allow_duplicate_ip

	refused func(peer string, err error) // is told of each persistent peer that is refused; may be nil

	mu     sync.Mutex
	counts map[string]*occasions
	lines  map[string]time.Time // when a line about a peer was last logged
}

// occasions are the latest times at which something happened.
type occasions struct{ at []time.Time }

// within adds now, and returns how many there were within d.
func (o *occasions) within(d time.Duration, now time.Time) int {
	kept := o.at[:0]
	for _, t := range o.at {
		if now.Sub(t) < d {
			kept = append(kept, t)
		}
	}
	o.at = append(kept, now)
	return len(o.at)
}

// Rules for things that happen now and then in a sound network too.
const (
	oftenWithin = time.Minute
	often       = 3 // refusals of a node id that is connected: two nodes that dial each other cause one
	endsOften   = 5 // connections in a row that a peer ended at once
	endsSoon    = 2 * time.Second
	quietFor    = time.Minute // the same line about a peer is not repeated
	mostCounts  = 1000
)

func newPeerLog(next cmtlog.Logger, f *peerFacts) cmtlog.Logger {
	f.counts, f.lines = make(map[string]*occasions), make(map[string]time.Time)
	return &peerLog{next, f}
}

// With implements cmtlog.Logger.
func (l *peerLog) With(keyvals ...any) cmtlog.Logger {
	return &peerLog{l.Logger.With(keyvals...), l.peerFacts}
}

// Debug implements cmtlog.Logger.
func (l *peerLog) Debug(msg string, keyvals ...any) {
	l.look(msg, keyvals)
	l.Logger.Debug(msg, keyvals...)
}

// Info implements cmtlog.Logger.
func (l *peerLog) Info(msg string, keyvals ...any) {
	l.look(msg, keyvals)
	l.Logger.Info(msg, short(keyvals)...)
}

// Error implements cmtlog.Logger.
func (l *peerLog) Error(msg string, keyvals ...any) {
	if about, known := l.look(msg, keyvals); known || about != "" && l.again(msg+about) {
		return
	}
	l.Logger.Error(msg, short(keyvals)...)
}

// mostOfValue bounds a value in a line. CometBFT logs whole answers that a client did not read.
const mostOfValue = 2 << 10

// short returns keyvals with long texts cut.
func short(keyvals []any) []any {
	for i, v := range keyvals {
		if text, long := longText(v); long {
			keyvals = slices.Clone(keyvals)
			keyvals[i] = fmt.Sprintf("%d bytes: %.100q…", len(text), text)
		}
	}
	return keyvals
}

// longText returns the text that a line would have of v, and whether it is too long. A value of any
// type may be: an answer is a struct, and an error may quote one.
func longText(v any) (text string, long bool) {
	switch v := v.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	case nil, bool, int, int32, int64, uint32, uint64, time.Duration, time.Time:
		return "", false
	default:
		text = fmt.Sprint(v)
	}
	return text, len(text) > mostOfValue
}

// often counts an event and returns how many there were within d.
func (f *peerFacts) often(key string, d time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()

	o := f.counts[key]
	if o == nil {
		if len(f.counts) >= mostCounts {
			clear(f.counts)
		}
		o = new(occasions)
		f.counts[key] = o
	}

	return o.within(d, time.Now())
}

// again reports whether the same line was logged a short while ago.
func (f *peerFacts) again(line string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	now := time.Now()
	if at, ok := f.lines[line]; ok && now.Sub(at) < quietFor {
		return true
	}
	if len(f.lines) >= mostCounts {
		clear(f.lines)
	}
	f.lines[line] = now

	return false
}

// look looks for a reason in a line. It returns what the line is about if that is a peer, and
// whether the reason for the line is known.
func (f *peerFacts) look(msg string, keyvals []any) (about string, known bool) {
	var err error
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch v := keyvals[i+1].(type) {
		case error:
			err = v
		case p2p.Peer:
			about = string(v.ID())
		case *p2p.NetAddress:
			if v != nil {
				about = string(v.ID)
			}
		case p2p.ID:
			about = string(v)
		}
	}

	switch {
	case strings.HasPrefix(msg, "found conflicting vote from ourselves"):
		f.notices.tell(DoubleSign, "vote", "another process signs with this validator's key, or its signing state was "+
			"put back to an older one: a vote of this validator is on the network that this node did not make "+
			"(%s): stop one of the two at once", text(keyvals))
		return "", false

	case err == nil:
		return "", false
	}

	if rejected := (p2p.ErrRejected{}); errors.As(err, &rejected) {
		return f.rejected(about, rejected)
	}
	if twice := (p2p.ErrSwitchDuplicatePeerID{}); errors.As(err, &twice) {
		return f.duplicate(string(twice.ID))
	}

	if errors.Is(err, errGenesis) {
		return about, true
	}

	return about, false
}

// rejected tells why a connection was refused, if that is known.
func (f *peerFacts) rejected(about string, err p2p.ErrRejected) (id string, known bool) {
	said := err.Error()

	switch {
	case err.IsSelf():
		if about == string(f.own) {
			return about, true // we dialled ourselves
		}
		from := err.Addr()
		f.notices.tell(DuplicateID, string(f.own), "a node at %s has this node's id %s: two nodes have one node key, "+
			"such as a copied home, and their peers let only one of them in; stop the copy, or give it keys of its "+
			"own (remove its comet/config/node_key.json and run 'coppice keys generate node'; if it also has a copy "+
			"of the validator key, it must never run)", hostOf(from.DialString()), f.own)
		return about, true

	case strings.Contains(said, "already connected"): // of the filter that allow_duplicate_ip = false adds
		f.notices.tell(DuplicateIP, "", "a peer is kept out (%s): another peer has the same address, and [p2p] "+
			"allow_duplicate_ip = false; set it to true in config.toml if several nodes share an address", said)
		return about, true

	case err.IsDuplicate() && strings.HasPrefix(said, "duplicate ID<"):
		return f.duplicate(strings.TrimSuffix(strings.TrimPrefix(said, "duplicate ID<"), ">"))

	case err.IsIncompatible():
		f.notices.tell(PeerChain, about, "peer %s is not of this chain: %s", about, said)
		return about, true

	case err.IsAuthFailure() && strings.Contains(said, "mismatch"):
		f.notices.tell(PeerID, about, "the node at the address of peer %s has another key: %s; is its id in "+
			"persistent_peers right?", about, said)
		return about, true

	case err.IsAuthFailure() && about != "":
		return about, f.ended(about, said)
	}

	return about, false
}

// duplicate notes that a peer came whose id is connected already.
func (f *peerFacts) duplicate(id string) (about string, known bool) {
	if f.often("duplicate "+id, oftenWithin) >= often { // else two nodes have dialled each other at the same moment
		f.notices.tell(DuplicateID, id, "a node with the id %s keeps connecting while a node with this id is "+
			"connected: two nodes have one node key, such as a copied home; stop the copy, or give it keys of its own",
			id)
	}
	return id, true
}

// ended notes that a peer ended a connection at once. It reports whether that is known.
func (f *peerFacts) ended(id, said string) bool {
	if f.often("ended "+id, oftenWithin) >= endsOften {
		f.notices.tell(PeerRefuses, id, "peer %s ends every connection at once (%s): it refuses this node. Its log "+
			"says why; usually another node with the same node key (a copied home) or, with allow_duplicate_ip = "+
			"false there, with the same address is connected to it", id, said)
	}
	return f.notices.has(PeerRefuses, id)
}

// text returns keyvals for people.
func text(keyvals []any) string {
	var parts []string
	for i := 0; i+1 < len(keyvals); i += 2 {
		parts = append(parts, fmt.Sprintf("%v %v", keyvals[i], keyvals[i+1]))
	}
	return strings.Join(parts, ", ")
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

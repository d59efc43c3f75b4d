package child

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Topic is what a Notice is about.
type Topic string

// Topics of notices.
const (
	DuplicateID  Topic = "duplicate_node_id"     // two nodes have one node key
	DuplicateIP  Topic = "duplicate_ip"          // allow_duplicate_ip keeps a peer out
	PeerID       Topic = "wrong_peer_id"         // a peer has another key than its address says
	PeerChain    Topic = "peer_of_other_chain"   // a peer is of another chain
	PeerGenesis  Topic = "wrong_genesis"         // a peer's chain began with another genesis
	PeerRefuses  Topic = "peer_refuses"          // a peer ends every connection at once
	DoubleSign   Topic = "double_sign"           // this validator's key signed what this node did not
	NotValidator Topic = "not_a_validator"       // nobody that this node can reach may make a block
	SignerAway   Topic = "remote_signer_is_away" // the remote signer does not answer
)

// Notice is what the process has found out and the operator must know. It is told once, and again
// when an hour has passed, as long as it is so.
type Notice struct {
	Topic Topic  `json:"topic"`
	About string `json:"about,omitempty"` // such as a node id
	Text  string `json:"text"`
}

// noticePrefix begins a line on stdout that is a Notice.
const noticePrefix = "notice: "

// NoticeAgain is how long the same notice is not repeated.
const NoticeAgain = time.Hour

// ParseNotice returns the Notice in a line of the process's stdout.
func ParseNotice(line []byte) (n Notice, ok bool) {
	text, ok := strings.CutPrefix(string(line), noticePrefix)
	if !ok || json.Unmarshal([]byte(text), &n) != nil {
		return Notice{}, false
	}
	return n, true
}

// notices writes notices. It is safe for concurrent use.
type notices struct {
	out io.Writer

	mu   sync.Mutex
	told map[Notice]time.Time // without their texts
}

// tell writes a notice unless it was written a short while ago.
func (n *notices) tell(topic Topic, about, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()

	key, now := Notice{Topic: topic, About: about}, time.Now()
	if at, ok := n.told[key]; ok && now.Sub(at) < NoticeAgain {
		return
	}

	if n.told == nil {
		n.told = make(map[Notice]time.Time)
	}
	n.told[key] = now

	key.Text = fmt.Sprintf(format, args...)
	if data, err := json.Marshal(key); err == nil {
		fmt.Fprintf(n.out, "%s%s\n", noticePrefix, data)
	}
}

// has reports whether a notice was written a short while ago.
func (n *notices) has(topic Topic, about string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.told[Notice{Topic: topic, About: about}]
	return ok && time.Since(at) < NoticeAgain
}

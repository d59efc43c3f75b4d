package resetfire

import (
	"os"
	"strings"
	"sync"
)

// Texts by which output recognizes the lines of a node, which engines/consensus/comet writes.
const (
	sayByPeer = "a peer has proved that the chain has ended"
	sayJoined = "this node has taken the state at the newest reset"
)

// alarms are texts that no node may print.
var alarms = []string{"double sign", "two different blocks for one height", "conflicting vote", "DATA RACE",
	"not the agreed reset"}

// output receives what the nodes print, line by line, writes it to a file and counts what matters.
type output struct {
	mu             sync.Mutex
	file           *os.File
	byPeer, joined int
	bad            []string
}

func newOutput(path string) (*output, error) {
	f, err := os.Create(path)
	return &output{file: f}, err
}

// Write receives one line. The nodes go on even if it cannot be kept.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.file.Write(p)

	line := string(p)
	if strings.Contains(line, sayByPeer) {
		o.byPeer++
	}
	if strings.Contains(line, sayJoined) {
		o.joined++
	}
	for _, a := range alarms {
		if strings.Contains(line, a) {
			o.bad = append(o.bad, strings.TrimSpace(line))
		}
	}

	return len(p), nil
}

func (o *output) found() (byPeer, joined int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byPeer, o.joined
}

func (o *output) eachAlarm(do func(line string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.bad {
		do(line)
	}
}

package comettest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"

	abci "github.com/cometbft/cometbft/abci/types"
)

// Relayed is a message that a relay is about to pass on, or has passed on.
type Relayed struct {
	Request   string // such as "FinalizeBlock": CometBFT sent it and the application does not have it yet
	Response  string // or the response that the application sent
	Delivered bool   // of a response: CometBFT has it
	Height    int64  // of the connection's last FinalizeBlock
}

// Relay passes messages between the listener's connections and the socket of an application. It
// calls at before it passes a message on, and for a response once more afterwards. While at runs,
// that direction of the connection stands still. When a connection ends on one side, Relay ends it
// on the other side. Relay returns when the listener is closed.
func Relay(l net.Listener, to string, at func(Relayed)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}

		app, err := net.Dial("unix", to)
		if err != nil {
			c.Close()
			continue
		}

		y := &relay{at: at, comet: c, app: app}
		go y.requests()
		go y.responses()
	}
}

type relay struct {
	at         func(Relayed)
	comet, app net.Conn
	height     atomic.Int64
}

func (y *relay) end() {
	y.app.Close()
	y.comet.Close()
}

func (y *relay) requests() {
	defer y.end()

	in := bufio.NewReader(y.comet)

	for {
		frame, err := readMessage(in)
		if err != nil {
			return
		}
		req := new(abci.Request)
		if err := req.Unmarshal(frame); err != nil {
			return
		}
		if f := req.GetFinalizeBlock(); f != nil {
			y.height.Store(f.Height)
		}

		y.at(Relayed{Request: kind(req.Value), Height: y.height.Load()})
		if _, err := y.app.Write(Frame(frame)); err != nil {
			return
		}
	}
}

func (y *relay) responses() {
	defer y.end()

	in := bufio.NewReader(y.app)

	for {
		frame, err := readMessage(in)
		if err != nil {
			return
		}
		resp := new(abci.Response)
		if err := resp.Unmarshal(frame); err != nil {
			return
		}

		m := Relayed{Response: kind(resp.Value), Height: y.height.Load()}
		y.at(m)
		if _, err := y.comet.Write(Frame(frame)); err != nil {
			return
		}

		m.Delivered = true
		y.at(m)
	}
}

// kind returns the name of a message's type, such as "FinalizeBlock" for a
// *types.Request_FinalizeBlock.
func kind(value any) string {
	_, k, _ := strings.Cut(fmt.Sprintf("%T", value), "_")
	return k
}

func readMessage(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

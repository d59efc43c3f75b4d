package nats

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 6, 9, 11, 27, 44, 48 and 72, on a server that is killed: with whole blocks in a batch, with
// blocks of several batches in protobuf, and message by message as on an old server.
func TestTheNATSSinkKeepsTheContract(t *testing.T) {
	server := servers.NATS(t)
	for name, lines := range map[string][]string{
		"batches":       nil,
		"small batches": {"batch = 3", `format = "protobuf"`},
		"no batches":    {`atomic = "never"`},
	} {
		t.Run(name, func(t *testing.T) {
			every := sinktest.Thinned(3)
			if name != "batches" {
				every = sinktest.Thinned(15)
			}
			sinktest.Run(t, Factory(), sinktest.Rig{Every: every, Target: func(t testing.TB) sinktest.Target {
				d, secrets := target(t, server, lines...)
				return sinktest.Target{Definition: d, Secrets: secrets, Damage: damage(server, d),
					Kill: func() error { server.Kill(); return server.TryStart() }}
			}})
		})
	}
}

// damage writes a stream again with a fault in it, as somebody could who has the rights.
func damage(s *servers.Server, d streams.Definition) map[streams.Fault]func() error {
	return map[streams.Fault]func() error{
		streams.FaultLost: rewrite(s, d, func(l []*nats.Msg, i int) []*nats.Msg {
			return append(l[:i:i], l[i+1:]...)
		}),
		streams.FaultDoubled: rewrite(s, d, func(l []*nats.Msg, i int) []*nats.Msg {
			return append(l[:i+1:i+1], l[i:]...)
		}),
		streams.FaultSwapped: rewrite(s, d, func(l []*nats.Msg, i int) []*nats.Msg {
			l[i], l[i-1] = l[i-1], l[i]
			return l
		}),
		streams.FaultChanged: rewrite(s, d, func(l []*nats.Msg, i int) []*nats.Msg {
			l[i] = edited(l[i], func(e *streams.Event) { e.Body.(*streams.Outcome).Code = 77 })
			return l
		}),
		streams.FaultForeign: rewrite(s, d, func(l []*nats.Msg, i int) []*nats.Msg {
			extra := edited(l[i], func(e *streams.Event) { e.Height = 3 }) // which has no block
			return append(append(l[:i+1:i+1], extra), l[i+1:]...)
		}),
	}
}

// edited returns a copy of a message with another event.
func edited(m *nats.Msg, edit func(*streams.Event)) *nats.Msg {
	stored, err := parse(1, m.Header, m.Data)
	if err != nil {
		panic(err)
	}
	edit(&stored.event)
	c := nats.NewMsg(m.Subject)
	c.Header = m.Header
	if m.Data[0] == '{' {
		c.Data = streams.AppendJSON(nil, stored.event)
	} else if c.Data, err = streams.AppendProto(nil, stored.event); err != nil {
		panic(err)
	}

	return c
}

// rewrite returns a function that reads a stream, changes its messages by edit, and makes it anew.
// edit gets the number of the outcome of a transaction after height 2.
func rewrite(s *servers.Server, d streams.Definition, edit func([]*nats.Msg, int) []*nats.Msg) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		js, err := connectTo(s)
		if err != nil {
			return err
		}
		defer js.Conn().Close()

		name := "coppice-" + d.Name
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		var list []*nats.Msg
		outcome := -1
		for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
			raw, err := stream.GetMsg(ctx, seq)
			if err != nil {
				return fmt.Errorf("sequence %d: %w", seq, err)
			}
			m := nats.NewMsg(raw.Subject)
			m.Data = raw.Data
			for _, h := range []string{headerEpoch, headerBase, headerDefinition} {
				if v := raw.Header.Get(h); v != "" {
					m.Header.Set(h, v)
				}
			}
			stored, err := parse(seq, m.Header, m.Data)
			if err != nil {
				return err
			}
			if stored.control == nil && stored.event.Body.Kind() == streams.KindOutcome && stored.event.Height > 2 &&
				outcome < 0 {
				outcome = len(list)
			}
			list = append(list, m)
		}
		if outcome < 0 {
			return errors.New("there is no outcome")
		}

		if err := js.DeleteStream(ctx, name); err != nil {
			return err
		}
		if _, err := js.CreateStream(ctx, info.Config); err != nil {
			return err
		}
		for _, m := range edit(list, outcome) {
			if _, err := js.PublishMsg(ctx, m); err != nil {
				return err
			}
		}

		return nil
	}
}

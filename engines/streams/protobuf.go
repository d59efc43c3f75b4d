package streams

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	streamv1 "github.com/coppice-go/coppice/proto/coppice/stream/v1"
)

// AppendProto appends the protobuf form of an event, a coppice.stream.v1.Event.
func AppendProto(b []byte, e Event) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, e.Proto())
}

// ParseProto returns the event whose protobuf form is b, and which shares b's memory. Fields that
// it does not know are ignored, and a body that it does not know becomes Unknown.
func ParseProto(b []byte) (Event, error) {
	m := new(streamv1.Event)
	if err := proto.Unmarshal(b, m); err != nil {
		return Event{}, fmt.Errorf("event in protobuf: %w", err)
	}
	if m.V == 0 {
		return Event{}, fmt.Errorf("event in protobuf: no version in %d bytes", len(b))
	}
	return FromProto(m), nil
}

// Proto returns the protobuf form of the event, which shares its memory.
func (e Event) Proto() *streamv1.Event {
	m := &streamv1.Event{V: Version, Chain: e.ChainID, Period: e.Period, Height: e.Height, Index: e.Index}
	if !e.Part.Whole() {
		m.Part, m.Parts, m.Size, m.Sha256 = e.Part.Number, e.Part.Of, e.Part.Size, e.Part.SHA256[:]
	}

	switch v := e.Body.(type) {
	case *Reset:
		m.Body = &streamv1.Event_Reset_{Reset_: &streamv1.Reset{OldChain: v.OldChainID, OldPeriod: v.OldPeriod,
			LastHeight: v.LastHeight, LastAppHash: v.LastAppHash, ResetHeight: v.ResetHeight, StateRoot: v.StateRoot}}

	case *Started:
		m.Body = &streamv1.Event_Started{Started: &streamv1.Started{InitialHeight: v.InitialHeight,
			TimeNs: v.GenesisTime.UnixNano(), AppHash: v.AppHash, AppStateSha256: v.AppStateSHA256}}

	case *Block:
		m.Body = &streamv1.Event_Block{Block: v.proto()}

	case *Tx:
		m.Body = &streamv1.Event_Tx{Tx: &streamv1.Tx{Tx: v.Number, Id: v.ID, Backend: v.Backend, TxSize: v.Size,
			HasBody: v.HasBody, Body: v.Body}}

	case *Change:
		m.Body = &streamv1.Event_Change{Change: &streamv1.Change{Tx: v.Tx, Key: v.Key, Delete: v.Delete,
			Value: v.Value}}
		if v.Before.State != "" || v.Decoded != nil {
			m.Local = &streamv1.Local{BeforeState: string(v.Before.State), Before: v.Before.Value, Decoded: v.Decoded}
		}

	case *Emitted:
		em := &streamv1.Emitted{Tx: v.Tx, Type: v.Type}
		for _, a := range v.Attributes {
			em.Attributes = append(em.Attributes, &streamv1.Attribute{Key: a.Key, Value: a.Value})
		}
		m.Body = &streamv1.Event_Event{Event: em}

	case *Outcome:
		m.Body = &streamv1.Event_Outcome{Outcome: &streamv1.Outcome{Tx: v.Tx, Code: v.Code, Data: v.Data}}
		if v.Log != "" {
			m.Local = &streamv1.Local{Log: v.Log}
		}

	case *Validator:
		m.Body = &streamv1.Event_Validator{Validator: &streamv1.Validator{KeyType: v.KeyType, PubKey: v.PubKey,
			Power: v.Power}}

	case *Key:
		m.Body = &streamv1.Event_State{State: &streamv1.Key{Key: v.Key, Value: v.Value}}
		if v.Decoded != nil {
			m.Local = &streamv1.Local{Decoded: v.Decoded}
		}

	case *Gap:
		g := &streamv1.Gap{Reason: v.Reason}
		if v.After != nil {
			g.After = &streamv1.Position{Period: v.After.Period, Height: v.After.Height}
		}
		m.Body = &streamv1.Event_Gap{Gap: g}

	case *Rejected:
		m.Body = &streamv1.Event_Rejected{Rejected: &streamv1.Rejected{Was: string(v.Was), Key: v.Key, Error: v.Err}}

	case *Redefined:
		m.Body = &streamv1.Event_Redefined{Redefined: &streamv1.Redefined{From: v.From, To: v.To}}

	case *Moved:
		m.Body = &streamv1.Event_Moved{Moved: &streamv1.Moved{To: v.To}}

	case *End:
		m.Body = &streamv1.Event_End{End: &streamv1.End{BlockHash: v.BlockHash, AppHash: v.AppHash, Events: v.Events,
			Delivered: v.Delivered, Digest: v.Digest}}
	}

	return m
}

func (b *Block) proto() *streamv1.Block {
	m := &streamv1.Block{Hash: b.Hash, TimeNs: b.Time.UnixNano(), Proposer: b.Proposer, Txs: b.Txs}
	for _, v := range b.Votes {
		m.Votes = append(m.Votes, &streamv1.Vote{Validator: v.Validator, Power: v.Power, Flag: v.Flag})
	}
	for _, f := range b.Misbehavior {
		m.Misbehavior = append(m.Misbehavior, &streamv1.Misbehavior{Type: f.Type, Validator: f.Validator,
			Power: f.Power, Height: f.Height, TimeNs: f.Time.UnixNano(), TotalPower: f.TotalPower})
	}
	return m
}

// FromProto returns the event with the protobuf form m, whose memory it shares.
func FromProto(m *streamv1.Event) Event {
	e := Event{Place: Place{ChainID: m.Chain, Position: Position{m.Period, m.Height}, Index: m.Index},
		Part: Part{Number: m.Part, Of: m.Parts, Size: m.Size}}
	copy(e.Part.SHA256[:], m.Sha256)
	e.Body = bodyFromProto(m)
	return e
}

func bodyFromProto(m *streamv1.Event) Body {
	switch v := m.Body.(type) {
	case *streamv1.Event_Reset_:
		r := v.Reset_
		return &Reset{r.OldChain, r.OldPeriod, r.LastHeight, r.LastAppHash, r.ResetHeight, r.StateRoot}

	case *streamv1.Event_Started:
		s := v.Started
		return &Started{s.InitialHeight, unix(s.TimeNs), s.AppHash, s.AppStateSha256}

	case *streamv1.Event_Block:
		return blockFromProto(v.Block)

	case *streamv1.Event_Tx:
		t := v.Tx
		return &Tx{t.Tx, t.Id, t.Backend, t.TxSize, t.HasBody, t.Body}

	case *streamv1.Event_Change:
		c := v.Change
		return &Change{Tx: c.Tx, Key: c.Key, Delete: c.Delete, Value: c.Value,
			Before:  Before{BeforeState(m.Local.GetBeforeState()), m.Local.GetBefore()},
			Decoded: m.Local.GetDecoded()}

	case *streamv1.Event_Event:
		em := &Emitted{Tx: v.Event.Tx, Type: v.Event.Type}
		for _, a := range v.Event.Attributes {
			em.Attributes = append(em.Attributes, Attribute{a.Key, a.Value})
		}
		return em

	case *streamv1.Event_Outcome:
		return &Outcome{v.Outcome.Tx, v.Outcome.Code, v.Outcome.Data, m.Local.GetLog()}

	case *streamv1.Event_Validator:
		return &Validator{v.Validator.KeyType, v.Validator.PubKey, v.Validator.Power}

	case *streamv1.Event_State:
		return &Key{v.State.Key, v.State.Value, m.Local.GetDecoded()}

	case *streamv1.Event_Gap:
		g := &Gap{Reason: v.Gap.Reason}
		if a := v.Gap.After; a != nil {
			g.After = &Position{a.Period, a.Height}
		}
		return g

	case *streamv1.Event_Rejected:
		return &Rejected{Kind(v.Rejected.Was), v.Rejected.Key, v.Rejected.Error}

	case *streamv1.Event_Redefined:
		return &Redefined{v.Redefined.From, v.Redefined.To}

	case *streamv1.Event_Moved:
		return &Moved{v.Moved.To}

	case *streamv1.Event_End:
		n := v.End
		return &End{BlockHash: n.BlockHash, AppHash: n.AppHash, Events: n.Events, Delivered: n.Delivered,
			Digest: n.Digest}
	}

	return &Unknown{"unknown"}
}

func blockFromProto(m *streamv1.Block) *Block {
	b := &Block{Hash: m.Hash, Time: unix(m.TimeNs), Proposer: m.Proposer, Txs: m.Txs}
	for _, v := range m.Votes {
		b.Votes = append(b.Votes, Vote{v.Validator, v.Power, v.Flag})
	}
	for _, f := range m.Misbehavior {
		b.Misbehavior = append(b.Misbehavior, Misbehavior{f.Type, f.Validator, f.Power, f.Height, unix(f.TimeNs),
			f.TotalPower})
	}
	return b
}

func unix(ns int64) time.Time { return time.Unix(0, ns).UTC() }
